import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { tryLock } from '../../../src/io/host/lock.ts'

let dir: string
let path: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-lock-'))
  path = join(dir, 'lock')
})
afterEach(() => rm(dir, { recursive: true }))

it('is held once, in this process too, and free after release', async () => {
  const lock = await tryLock(path)
  expect(await tryLock(path)).toBeUndefined()
  lock?.release()
  const again = await tryLock(path)
  expect(again).toBeDefined()
  again?.release()
})

it('ends with its process on kill -9', async () => {
  const module = fileURLToPath(new URL('../../../src/io/host/lock.ts', import.meta.url))
  const script = `const { tryLock } = await import(${JSON.stringify(module)}); console.log(await tryLock(${JSON.stringify(path)}) !== undefined); setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'ignore'] })
  const [printed] = await once(child.stdout!, 'data')
  expect(String(printed)).toBe('true\n')
  expect(await tryLock(path)).toBeUndefined()
  child.kill('SIGKILL')
  await once(child, 'exit')
  const lock = await tryLock(path)
  expect(lock).toBeDefined()
  lock?.release()
})

it('throws when the directory is missing', async () => {
  await expect(tryLock(join(dir, 'no', 'lock'))).rejects.toThrow()
})
