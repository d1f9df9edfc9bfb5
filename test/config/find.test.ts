import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { findConfig, loadConfig } from '../../src/config.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-config-'))
})
afterEach(() => rm(dir, { recursive: true }))

describe('findConfig', () => {
  it('walks up to the nearest bake.yaml', async () => {
    await mkdir(join(dir, 'repo/.git'), { recursive: true })
    await mkdir(join(dir, 'repo/a/b'), { recursive: true })
    await writeFile(join(dir, 'repo/bake.yaml'), '')
    expect(await findConfig(join(dir, 'repo/a/b'))).toBe(join(dir, 'repo/bake.yaml'))
    await writeFile(join(dir, 'repo/a/bake.yaml'), '')
    expect(await findConfig(join(dir, 'repo/a/b'))).toBe(join(dir, 'repo/a/bake.yaml'))
  })

  it('stops at the top of the work tree, and names the next step', async () => {
    await mkdir(join(dir, 'repo/sub'), { recursive: true })
    await writeFile(join(dir, 'bake.yaml'), '')
    await writeFile(join(dir, 'repo/.git'), 'gitdir: elsewhere\n')
    await expect(findConfig(join(dir, 'repo/sub'))).rejects.toMatchObject({ code: 'config_missing', exit: 2, next: 'bake init' })
  })

  it('says that bake.yml is called bake.yaml', async () => {
    await writeFile(join(dir, 'bake.yml'), '')
    await expect(findConfig(dir)).rejects.toMatchObject({ code: 'config_missing', next: expect.stringContaining('mv -- ') })
  })
})

describe('loadConfig', () => {
  it('names the file absolutely in the result', async () => {
    await writeFile(join(dir, 'bake.yaml'), 'project: p\nimages: { a: . }\n')
    expect((await loadConfig(join(dir, 'bake.yaml'))).file).toBe(join(dir, 'bake.yaml'))
  })

  it('tells a missing file from one that can not be read', async () => {
    await expect(loadConfig(join(dir, 'bake.yaml'))).rejects.toMatchObject({ code: 'config_missing', exit: 2 })
    await mkdir(join(dir, 'bake.yaml'))
    await expect(loadConfig(join(dir, 'bake.yaml'))).rejects.toMatchObject({ code: 'config_unreadable', exit: 2 })
  })
})
