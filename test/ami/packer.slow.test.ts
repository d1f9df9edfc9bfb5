// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what is tested
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { packer } from '../../src/ami/quote.ts'
import { renderMachine, writeRendered } from '../../src/ami/render.ts'
import { tool } from '../../src/io/tool.ts'
import { ami, disk, HOSTILE, plan, shop, standIns } from './plan.ts'

const PACKER = 'packer'
const version = /^Packer v?(\d+)\.(\d+)/m.exec(spawnSync(PACKER, ['version'], { encoding: 'utf8' }).stdout ?? '')
/** Of plugins that are no part of it nothing is known here. */
const builtIn = version !== null && Number(version[1]) === 1 && Number(version[2]) < 7

describe.skipIf(!builtIn)('Packer 1.6, which has to be installed for this,', () => {
  let dir: string
  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'bake-packer-'))
    await tool('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(dir, 'key')])
  })
  afterEach(() => rmSync(dir, { recursive: true }))

  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(PACKER, args, {
      cwd: dir,
      encoding: 'utf8',
      env: { PATH: process.env.PATH, HOME: dir, CHECKPOINT_DISABLE: '1', PACKER_NO_COLOR: '1' },
    })
    return { status, said: stdout + stderr }
  }

  const tags = Object.fromEntries(HOSTILE.map((value, index) => [`key${index} ${value}`, value]))
  const { definition } = plan([])
  const own = {
    ...definition,
    ami: { ...definition.ami, tags, kmsKey: 'alias/a "b" ${c}', volume: { sizeBytes: 21e9, iops: 4000 } },
  }
  test.each([
    ['qemu', { base: disk }, { ssh_private_key_file: 'key' }],
    [
      'qemu, UEFI, arm64',
      { base: { ...disk, firmware: 'uefi', architecture: 'arm64' } as const },
      { ssh_private_key_file: 'key', uefi_code: '/code.fd', smbios: ['type=11,value=a'] },
    ],
    ['amazon-ebs', { base: ami }, { ssh_private_key_file: 'key', user_data_file: 'data', ami_name: 'bake-shop', run: 'r' }],
    [
      'amazon-ebs with hostile options',
      { base: ami, definition: own },
      { ssh_private_key_file: 'key', user_data_file: 'data', ami_name: 'bake-shop', run: 'r' },
    ],
  ])('takes the template for %s, and would format it no other way', async (what, more, variables) => {
    const rendered = await renderMachine(plan(shop(HOSTILE), { standIns, ...more }), new Map())
    await writeRendered(dir, rendered, rendered.packer!.builtIn)
    writeFileSync(join(dir, 'machine.auto.pkrvars.json'), JSON.stringify(variables))
    writeFileSync(join(dir, 'data'), '#cloud-config\n')
    const { status, said } = run('validate', '.')
    expect(said.replace(/^Warning: A checksum of 'none'[\s\S]*?not available\)\s*/, '')).toBe('')
    expect(status).toBe(0)
    // It takes an emoji for two columns.
    if (!what.includes('hostile')) expect(run('fmt', '-check', '-diff', 'machine.pkr.hcl')).toEqual({ status: 0, said: '' })
  })

  test('reads back hostile values', () => {
    const more = ['${', '%{', '$${x}', '$$${', '%%{', '$%{x}', '\\${x}', '{{', '{{`', '{{{{', '}}`{{', '\x01', '\r']
    // It writes no empty file.
    const values = [...HOSTILE, ...more].filter((value) => value !== '')
    const sources = values.map(
      (value, index) => `source "file" "v${index}" {\n  content = ${packer(value)}\n  target = "v${index}"\n}\n`,
    )
    mkdirSync(join(dir, 't'))
    const names = values.map((_, index) => `"source.file.v${index}"`).join(', ')
    writeFileSync(join(dir, 't/a.pkr.hcl'), `${sources.join('')}build {\n  sources = [${names}]\n}\n`)
    const { status, said } = run('build', 't')
    expect(status, said).toBe(0)
    expect(values.map((_, index) => readFileSync(join(dir, `v${index}`), 'utf8'))).toEqual(values)
  })
})
