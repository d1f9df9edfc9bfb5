import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { defaultBranch } from '../../src/io/git-default-branch.ts'
import { makeRepo } from '../support/repo.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-default-branch-'))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(dir, { recursive: true })
})

const local = { allowLocal: true }

test('of a server it is what HEAD names, asked for once', async () => {
  await using repo = await makeRepo({ files: { a: '1' } })
  await repo.git('branch', '-m', 'main', 'trunk')
  // Stands for ssh(1): runs git's command here.
  await writeFile(join(dir, 'ssh'), '#!/bin/sh\nfor last; do :; done\neval "exec $last"\n', { mode: 0o755 })
  vi.stubEnv('GIT_SSH_COMMAND', join(dir, 'ssh'))
  vi.stubEnv('GIT_SSH_VARIANT', 'ssh')
  expect(await defaultBranch(`host:${repo.dir}`, local)).toBe('trunk')
  await repo.git('branch', '-m', 'trunk', 'other')
  expect(await defaultBranch(`host:${repo.dir}`, local)).toBe('trunk')
})

test("of a checkout it is its origin's, whatever is checked out", async () => {
  await using repo = await makeRepo({ files: { a: '1' } })
  expect(await defaultBranch(repo.dir, local)).toBeUndefined()
  await using other = await makeRepo({ files: { a: '1' } })
  await other.git('branch', '-m', 'main', 'trunk')
  await other.git('clone', '-q', '.', join(dir, 'clone'))
  await other.git('-C', join(dir, 'clone'), 'checkout', '-q', '-b', 'feature')
  expect(await defaultBranch(join(dir, 'clone'), local)).toBe('trunk')
})

test('nobody who can be asked: none, and no error', async () => {
  expect(await defaultBranch(join(dir, 'nowhere'), local)).toBeUndefined()
})
