import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { makeSshKey } from '../../src/io/ssh-key.ts'

test('a key is for its owner only, and gone with its run', async () => {
  let path: string
  {
    await using key = await makeSshKey()
    path = key.privateKeyPath
    expect(key.publicKey).toMatch(/^ssh-ed25519 [A-Za-z0-9+/=]+ bake$/)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect((await stat(dirname(path))).mode & 0o777).toBe(0o700)
    expect(await readFile(path, 'utf8')).toContain('OPENSSH PRIVATE KEY')
  }
  expect(existsSync(dirname(path))).toBe(false)
})

test('the next one removes those of processes that were killed, and of none that live', async () => {
  await using living = await makeSshKey()
  const home = dirname(dirname(living.privateKeyPath))
  const dead = join(home, 'bake-secrets-999999999-1.abcdef01-000000000000')
  await mkdir(dead)
  try {
    await using _next = await makeSshKey()
    expect(existsSync(dead)).toBe(false)
    expect(existsSync(living.privateKeyPath)).toBe(true)
  } finally {
    await rm(dead, { recursive: true, force: true })
  }
})
