import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { assertPackerPlugin, findPacker } from '../../src/io/packer.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-packer-'))
  return () => rm(dir, { recursive: true })
})

const PATH = '/usr/bin:/bin'
/** A program that answers as Packer of that version does. */
async function packer(script: string): Promise<string> {
  const path = join(dir, 'packer')
  await writeFile(path, `#!/bin/sh\n${script}\n`)
  await chmod(path, 0o755)
  return path
}
const find = () => findPacker({ PATH: dir })

test.each([
  ['Packer v1.6.6', { version: '1.6.6', namesPlugins: false }],
  ['Packer v1.7.0', { version: '1.7.0', namesPlugins: true }],
  ['Packer v1.14.2\\n\\nYour version of Packer is out of date!', { version: '1.14.2', namesPlugins: true }],
  ['Packer v2.0.0', { version: '2.0.0', namesPlugins: true }],
])('%s is taken, with what its templates look like', async (said, found) => {
  const path = await packer(`printf '${said}\\n'`)
  expect(await find()).toEqual({ path, ...found })
})

test.each(['1.5.6', '0.12.3'])('Packer %s is too old', async (version) => {
  const path = await packer(`echo 'Packer v${version}'`)
  await expect(find()).rejects.toMatchObject({
    code: 'packer_too_old',
    exit: 4,
    message: `Packer ${version} (${path}) is too old: 1.6 or later is needed`,
    next: expect.stringContaining('bin/setup --machines'),
  })
})

test('no Packer at all, and another program of that name', async () => {
  const missing = { code: 'packer_missing', exit: 4, next: expect.stringContaining('bin/setup --machines') }
  await expect(find()).rejects.toMatchObject(missing)
  await packer("echo 'usage: packer [dictionary]' >&2; exit 1")
  await expect(find()).rejects.toMatchObject(missing)
})

test('from 1.7 on the plugin must be installed', async () => {
  const says = 'case $2 in installed) echo /root/.packer.d/plugins/github.com/hashicorp/qemu/packer-plugin-qemu_v1.1.4 ;; esac'
  const found = { path: await packer(`PATH=${PATH}; ${says}`), version: '1.14.2', namesPlugins: true }
  await assertPackerPlugin(found, 'qemu')
  await expect(assertPackerPlugin(found, 'amazon')).rejects.toMatchObject({
    code: 'packer_plugin_missing',
    exit: 4,
    next: 'packer plugins install github.com/hashicorp/amazon',
  })
  await assertPackerPlugin({ ...found, namesPlugins: false }, 'amazon')
})
