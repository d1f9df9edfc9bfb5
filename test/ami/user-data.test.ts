import { gunzipSync, gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { withBakeLine } from '../../src/ami/user-data.ts'

const facts = { release: 'v2', sha: '1'.repeat(40) }
const line = `#bake release=v2 sha=${'1'.repeat(40)}\n`
const added = (text: string, ...more: [Parameters<typeof withBakeLine>[1]?, string?]) =>
  withBakeLine(Buffer.from(text), more[0] ?? facts, more[1])?.toString()

test('none becomes a cloud-config that says nothing else', () => {
  expect(withBakeLine(undefined, facts)?.toString()).toBe(`#cloud-config\n${line}`)
  expect(added('')).toBe(`#cloud-config\n${line}`)
})

test.for([
  ['a shell script', '#!/bin/sh\necho hello'],
  ['cloud-config', '#cloud-config\nwrite_files:\n  - content: |\n      text\n'],
  ['MIME', 'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nhello\r\n--b--\r\n'],
  ['umlauts and bytes that are no text', '#!/bin/sh\necho ä \u0000'],
] as const)('%s keeps its beginning, and gets the line at its end', ([, text]) => {
  expect(added(text)).toBe(`${text}${text.endsWith('\n') ? '' : '\n'}${line}`)
})

test('a line that is there is replaced; a comment that only looks like one stays', () => {
  const before = `#!/bin/sh\n#bake release=v1 sha=2222\n#bake the bread\n#bake-proof aGVsbG8=\necho hello\n#bake proof=console`
  expect(added(before)).toBe(`#!/bin/sh\n#bake the bread\necho hello\n${line}`)
  expect(added(added(before)!)).toBe(added(before))
})

test('a script goes along in lines that anything takes for comments', () => {
  const script = `#!/bin/bash\n${'echo "$(date)"\n'.repeat(50)}`
  const text = added('#!/bin/sh\n', { proof: 'console' }, script)!
  expect(text.split('\n').every((each) => each === '' || each.startsWith('#'))).toBe(true)
  const encoded = [...text.matchAll(/^#bake-proof (.+)$/gm)].map(([, piece]) => piece)
  expect(encoded.every((piece) => piece!.length <= 76)).toBe(true)
  expect(Buffer.from(encoded.join(''), 'base64').toString()).toBe(script)
})

test('what is packed is packed again', () => {
  const packed = withBakeLine(gzipSync('#!/bin/sh\necho hello\n'), facts)!
  expect(gunzipSync(packed).toString()).toBe(`#!/bin/sh\necho hello\n${line}`)
  expect(withBakeLine(packed, facts)).toEqual(packed)
})

test('what would be too long for EC2 is packed', () => {
  const long = `#!/bin/sh\n${'# a comment that repeats itself\n'.repeat(600)}`
  const packed = withBakeLine(Buffer.from(long), facts)!
  expect(packed.length).toBeLessThan(16_384)
  expect(gunzipSync(packed).toString()).toBe(`${long}${line}`)
})

test('what can’t be packed short enough, or is packed in another way, can’t carry it', () => {
  const noise = Buffer.from(Array.from({ length: 17_000 }, (_, at) => (at * at * 31 + at * 7) % 251))
  expect(
    withBakeLine(Buffer.concat([Buffer.from('#!/bin/sh\n'), noise, crypto.getRandomValues(Buffer.alloc(17_000))]), facts),
  ).toBeUndefined()
  expect(withBakeLine(Buffer.from([0x1f, 0x8b, 1, 2, 3]), facts)).toBeUndefined()
})
