import { expect, test } from 'vitest'
import { lingerMs } from '../../../src/io/host/life.ts'

test.each([
  ['0', 0],
  ['1500', 1500],
  [undefined, 10_000],
  ['', 10_000],
  ['soon', 10_000],
  ['-1', 10_000],
])('BAKE_HOST_LINGER_MS=%s is %i ms', (variable, ms) => {
  expect(lingerMs(variable)).toBe(ms)
})
