import { describe, expect, test } from 'vitest'
import { RawJson } from '../../src/io/rawjson.ts'

function parse(chunks: Uint8Array[]) {
  const json = new RawJson()
  const values = chunks.flatMap((chunk) => [...json.push(chunk)])
  json.end()
  return { values, text: json.text }
}
const whole = (text: string) => parse([Buffer.from(text)])

const SAMPLE = `{
  "logs": [ { "data": "e30=", "odd": "}{\\"\\\\" } ]
}
{"one":"line"}{"right":"after"}
time="2026" level=warning msg="{not: a value"
  { "indented": [1, {"a": "ü€😀"}] }
{ looks like one
but is none }
{"last": "\\\\"}
Dockerfile:3
--------------------
   3 | >>> RUN echo \${X} "{"
--------------------
ERROR: failed to solve: process "/bin/sh -c echo \${X}" did not complete successfully: exit code: 7
`
const EXPECTED = {
  values: [
    { logs: [{ data: 'e30=', odd: '}{"\\' }] },
    { one: 'line' },
    { right: 'after' },
    { indented: [1, { a: 'ü€😀' }] },
    { last: '\\' },
  ],
  text: `time="2026" level=warning msg="{not: a value"
{ looks like one
but is none }
Dockerfile:3
--------------------
   3 | >>> RUN echo \${X} "{"
--------------------
ERROR: failed to solve: process "/bin/sh -c echo \${X}" did not complete successfully: exit code: 7`,
}

describe('RawJson', () => {
  test('tells values from text', () => {
    expect(whole(SAMPLE)).toEqual(EXPECTED)
  })

  test('gives the same wherever the stream is cut', () => {
    const bytes = Buffer.from(SAMPLE)
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(parse([bytes.subarray(0, cut), bytes.subarray(cut)]), `cut at ${cut}`).toEqual(EXPECTED)
    }
    for (const size of [1, 2, 3, 7]) {
      const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size))
      expect(parse(chunks), `chunks of ${size}`).toEqual(EXPECTED)
    }
  })

  test('an unfinished value at the end is text', () => {
    expect(whole('{"a":1}\n{"b": "\nERROR: killed\n')).toEqual({ values: [{ a: 1 }], text: '{"b": "\nERROR: killed' })
  })

  test('keeps the last 64 KiB of text', () => {
    const { text } = parse(Array.from({ length: 300 }, (_, i) => Buffer.from(`${String(i).padStart(1022, '.')}\n`)))
    expect(text.length).toBeLessThanOrEqual(65536)
    expect(text.length).toBeGreaterThan(65000)
    expect(text.endsWith('.299')).toBe(true)
  })

  test('takes values of some MiB, gives up on longer ones, and goes on after them', () => {
    const value = (length: number) => `{"data":\n"${'x'.repeat(length)}"}\n`
    const large = Buffer.from(`${value(5_000_000)}${value(9_000_000)}{"next":1}\n`)
    const chunks = Array.from({ length: Math.ceil(large.length / 65536) }, (_, i) => large.subarray(i * 65536, (i + 1) * 65536))
    const { values } = parse(chunks)
    expect(values.map((each) => Object.keys(each)[0])).toEqual(['data', 'next'])
  })
})
