import { expect, test } from 'vitest'
import { ConsoleLines } from '../../src/io/console-lines.ts'

function linesOf(chunks: (string | Uint8Array)[], keep?: number) {
  const seen: string[] = []
  const lines = new ConsoleLines((line) => seen.push(line), keep)
  for (const chunk of chunks) lines.push(Buffer.from(chunk as string))
  return { seen, lines }
}

test('cuts lines wherever the console was cut', () => {
  const { seen, lines } = linesOf(['one\r\ntw', 'o\r', '\nthree'])
  expect(seen).toEqual(['one', 'two'])
  lines.end()
  expect(seen).toEqual(['one', 'two', 'three'])
})

test('takes away colours, cursor moves and titles', () => {
  const { seen } = linesOf([
    '[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mDocker\x1b[0m.\r\n\x1b[2J\x1b[1;1Hlogin:\x1b]0;title\x07 \n',
  ])
  expect(seen).toEqual(['[  OK  ] Started Docker.', 'login:'])
})

test('a line that is written over is its last version', () => {
  expect(linesOf(['[*  ] job\r[ * ] job\r[  *] job\r\n']).seen).toEqual(['[  *] job'])
})

test('puts letters of several bytes together', () => {
  const bytes = Buffer.from('Bäckerei\n')
  expect(linesOf([bytes.subarray(0, 2), bytes.subarray(2)]).seen).toEqual(['Bäckerei'])
})

test('keeps the last lines, and what has come of the next one', () => {
  const { lines } = linesOf(['a\nb\n\n\nc\nlogi'], 2)
  expect(lines.last).toEqual(['b', 'c', 'logi'])
})

test('cuts a line that never ends', () => {
  const { seen } = linesOf(['x'.repeat(10_000), 'x'.repeat(10_000), '\n'])
  expect(seen.map(({ length }) => length)).toEqual([20_000, 0])
})
