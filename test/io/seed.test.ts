import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { makeSeed } from '../../src/io/seed.ts'

const run = promisify(execFile)

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-seed-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

test('a seed is a FAT image called CIDATA, with each file under its own name', async () => {
  const path = join(dir, 'seed.img')
  const files = {
    'user-data': '#cloud-config\n#bake release=v2\n',
    'meta-data': 'instance-id: i\n',
    'proof.sh': 'x'.repeat(3_000_000),
  }
  await makeSeed(path, files)
  const env = { ...process.env, MTOOLS_SKIP_CHECK: '1' }
  expect((await run('mlabel', ['-s', '-i', path, '::'], { env })).stdout).toContain('CIDATA')
  for (const [name, text] of Object.entries(files))
    expect((await run('mtype', ['-i', path, `::${name}`], { env, maxBuffer: 1e7 })).stdout).toBe(text)
  expect((await stat(path)).size % 512).toBe(0)
})

test('takes no file that is there', async () => {
  const path = join(dir, 'seed.img')
  await makeSeed(path, { 'user-data': 'first' })
  const made = await readFile(path)
  await expect(makeSeed(path, { 'user-data': 'second' })).rejects.toMatchObject({ code: 'tool_failed' })
  expect((await readFile(path)).equals(made)).toBe(true)
})
