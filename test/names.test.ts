import { expect, test } from 'vitest'
import { BUILD_ID_PATTERN, branchSlug, buildIdTime, newBuildId } from '../src/names.ts'

test('build ids sort newest first, tell their time, and differ in their first nine digits within a process', () => {
  expect(newBuildId(1_700_000_000_000) < newBuildId(1_600_000_000_000)).toBe(true)
  expect(buildIdTime(newBuildId(1_700_000_000_123))).toBe(1_700_000_000_123)
  const ids = Array.from({ length: 500 }, () => newBuildId())
  expect(ids.every((id) => BUILD_ID_PATTERN.test(id))).toBe(true)
  expect(new Set(ids.map((id) => id.slice(0, 9))).size).toBe(500)
  expect([...ids].sort().reverse()).toEqual(ids)
})

test('a branch that is no tag gets one of its own', () => {
  expect(branchSlug('main')).toBe('main')
  expect(branchSlug('feature/a')).toMatch(/^feature-a-[0-9a-f]{8}$/)
  expect(branchSlug('feature-a')).toBe('feature-a')
})
