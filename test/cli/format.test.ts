import { expect, test } from 'vitest'
import { age, duration, shortDigest, size } from '../../src/cli/format.ts'
import { table } from '../../src/cli/table.ts'
import { printable, truncate, width } from '../../src/cli/width.ts'

test.for([
  [0, '0.0 s'],
  [4.24, '4.2 s'],
  [59.94, '59.9 s'],
  [59.96, '1 min 00 s'],
  [125, '2 min 05 s'],
  [3599.6, '1 h 00 min'],
  [7384, '2 h 03 min'],
] as const)('%d seconds are %s', ([seconds, text]) => expect(duration(seconds)).toBe(text))

test.for([
  [0, '0 B'],
  [999, '999 B'],
  [1500, '1.5 kB'],
  [43_210, '43 kB'],
  [300_000, '0.3 MB'],
  [58_000_000, '58 MB'],
  [653_000_000, '653 MB'],
  [1_240_000_000, '1.2 GB'],
  [5e15, '5000 TB'],
] as const)('%d bytes are %s', ([bytes, text]) => expect(size(bytes)).toBe(text))

const NOW = Date.UTC(2026, 0, 31, 12)
test.for([
  [-60, 'just now'],
  [9, 'just now'],
  [59, '59 s ago'],
  [180, '3 min ago'],
  [7200, '2 h ago'],
  [86_400, '1 day ago'],
  [29 * 86_400, '29 days ago'],
  [30 * 86_400, '2026-01-01'],
] as const)('%d seconds back is %s', ([seconds, text]) => expect(age(NOW - seconds * 1000, NOW)).toBe(text))

test('a digest is shortened inside its reference', () => {
  expect(shortDigest(`host:5000/a@sha256:${'0123456789abcdef'.repeat(4)}`)).toBe('host:5000/a@sha256:0123456789ab…')
})

test.for([
  ['web', 3],
  ['\x1b[31mred\x1b[39m', 3],
  ['日本語', 6],
  ['한글', 4],
  ['é', 1],
  ['👩‍👩‍👧', 2],
  ['✓ a…', 4],
  ['⠋', 1],
  ['Ｗ', 2],
] as const)('%j takes %d cells', ([text, cells]) => expect(width(text)).toBe(cells))

test.for([
  ['abcdef', 6, 'abcdef'],
  ['abcdefg', 6, 'abcde…'],
  ['日本語', 6, '日本語'],
  ['日本語', 5, '日本…'],
  ['日本語', 4, '日…'],
  ['abc', 1, '…'],
  ['abc', 0, ''],
] as const)('%j in %d cells is %j', ([text, cells, cut]) => expect(truncate(text, cells)).toBe(cut))

test('megabytes of one line are cut without measuring them', () => {
  const start = performance.now()
  expect(truncate('語'.repeat(5_000_000), 80)).toMatch(/^語{39}…$/)
  expect(performance.now() - start).toBeLessThan(10_000)
})

test.for([
  ['plain', 'plain'],
  ['10%\r100%\r\n', '100%'],
  ['a\tb\x07\x1b[2Jc\x1b]0;title\x07', 'a    bc'],
] as const)('%j prints as %j', ([text, shown]) => expect(printable(text)).toBe(shown))

const rows = [
  { id: 'a', image: 'web', size: 58 },
  { id: 'bbb', image: '日本語-with-a-very-long-name', size: 1_000 },
]
const columns = [
  { title: 'BUILD', value: (row: (typeof rows)[0]) => row.id },
  { title: 'IMAGE', value: (row: (typeof rows)[0]) => row.image, shrink: true },
  { title: 'SIZE', value: (row: (typeof rows)[0]) => String(row.size), right: true },
]

test('a table in a pipe is aligned by cells and never cut', () => {
  expect(table(rows, columns, { columns: undefined })).toEqual([
    'BUILD  IMAGE                         SIZE',
    'a      web                             58',
    'bbb    日本語-with-a-very-long-name  1000',
  ])
})

test('a table on a narrow terminal cuts what may be cut', () => {
  expect(table(rows, columns, { columns: 28 })).toEqual([
    'BUILD  IMAGE            SIZE',
    'a      web                58',
    'bbb    日本語-with-a-…  1000',
  ])
})

test('a table cuts a column to 8 cells at most, then leaves the terminal to wrap', () => {
  expect(table(rows, columns, { columns: 5 })[2]).toBe('bbb    日本語-…  1000')
})

test('colours do not disturb a table', () => {
  const painted = columns.map((column) => ({ ...column, paint: (text: string) => `\x1b[31m${text}\x1b[39m` }))
  const lines = table(rows, painted, { columns: 28, paintTitle: (text) => `\x1b[1m${text}\x1b[22m` })
  expect(lines.map((line) => line.replace(/\x1b\[\d+m/g, ''))).toEqual(table(rows, columns, { columns: 28 }))
})
