// biome-ignore-all lint/suspicious/noTemplateCurlyInString: a unit's variable
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { MachinePlan, Rendered } from '../../src/ami/machine.ts'
import { machineKit, renderMachine, writeRendered } from '../../src/ami/render.ts'
import { dockerRun } from '../../src/docker-run.ts'
import { ami, disk, HOSTILE, plan, service, shop, standIns } from './plan.ts'
import { hasSystemd, readGo, readHcl, readUnit } from './read-back.ts'

const setup = (words: string[]) => [{ path: 'ops/setup.sh', text: `#!/bin/sh\necho ${words.join(' ')}\n` }]
const render = (words?: string[], more: Partial<MachinePlan> = {}) =>
  renderMachine(plan(shop(words), { standIns, setup: setup(words ?? []), ...more }), new Map())
const scripts = ({ files, steps, proof }: Rendered) => [
  ...files.filter(({ mode }) => mode === 0o755),
  ...steps,
  { path: 'proof.sh', text: proof },
]
const fileOf = ({ files }: Rendered, path: string) => files.find((file) => file.path === path)!.text
const unitOf = (rendered: Rendered, name: string) => fileOf(rendered, `/etc/systemd/system/bake-${name}.service`)

let dir: string
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'bake-render-'))
})
afterAll(() => rmSync(dir, { recursive: true }))

describe('a shop with everything', async () => {
  const rendered = await render()
  const amazon = await render(undefined, { base: ami })
  const files = [
    ...machineKit(rendered),
    { path: 'qemu-1.6.pkr.hcl', text: rendered.packer!.builtIn },
    { path: 'qemu.pkr.hcl', text: rendered.packer!.plugins },
    { path: 'amazon-1.6.pkr.hcl', text: amazon.packer!.builtIn },
    { path: 'amazon.pkr.hcl', text: amazon.packer!.plugins },
  ]

  test.each(files)('is rendered as it was before: $path', async ({ path, text }) => {
    // Not .json: its lines are laid out for sed.
    await expect(text).toMatchFileSnapshot(`../golden/ami/${path.replace(/^files\//, '').replace(/\.json$/, '.txt')}`)
  })

  test('is the same every time', async () => {
    expect(await render()).toEqual(rendered)
  })

  test('names neither release nor commit, so that releases with equal content are one', () => {
    expect(JSON.stringify(rendered)).not.toMatch(/v2"|c{40}/)
  })

  test('decides nothing on the disk by what its proof needs', async () => {
    const services = shop().map((one) => ({
      ...one,
      imds: !one.imds,
      proof: { env: { A: 'b' }, with: [], level: 'started' as const },
    }))
    const other = await renderMachine(plan(services, { setup: setup([]) }), new Map())
    expect(other.files).toEqual(rendered.files)
    expect(other.steps).toEqual(rendered.steps)
    expect(other.proof).not.toEqual(rendered.proof)
  })
})

describe('hostile values', async () => {
  const rendered = await render(HOSTILE)

  test.skipIf(!hasSystemd).each(['web', 'jobs'])('reach docker as they were written: %s', (name) => {
    const { options, command } = dockerRun(shop(HOSTILE).find((one) => one.name === name)!)
    expect(readUnit(`bake-${name}.service`, unitOf(rendered, name)).ExecStart).toEqual([
      ...['/usr/bin/docker', 'run', ...options, '$BAKE_RUN_ARGS', '${BAKE_IMAGE}', ...command],
    ])
    const said = name === 'jobs' ? command : options.find((option) => option.startsWith('--env=MOTTO='))
    expect(said).toEqual(name === 'jobs' ? HOSTILE : `--env=MOTTO=${HOSTILE.join('|')}`)
  })

  test('reach a health check’s command', () => {
    const line = /^ {4}command\) probe_command "\$container"([\s\S]*?) ;;$/m.exec(
      fileOf(rendered, '/usr/local/lib/bake/health-jobs'),
    )![1]
    const read = execFileSync('bash', ['-c', `printf '%s\\0'${line}`], { encoding: 'utf8' })
    expect(read.split('\0').slice(0, -1)).toEqual(['test', '-e', ...HOSTILE])
  })

  test('reach stand-ins', () => {
    const start = rendered.proof.indexOf('options_1()')
    const functions = rendered.proof.slice(start, rendered.proof.indexOf('well_1()'))
    const read = execFileSync('bash', ['-c', `${functions}\noptions_1; printf '%s\\0' "\${options[@]}" "\${command[@]}"`], {
      encoding: 'utf8',
    })
    expect(read.split('\0').slice(0, -1)).toEqual([`--env=MOTTO=${HOSTILE.join('|')}`, ...HOSTILE])
  })

  test('reach the scripts of machine.setup', () => {
    const step = rendered.steps.find(({ path }) => path === 'steps/setup.sh')!.text
    const call = step.slice(step.indexOf('\nrun '), step.indexOf('\n\nsecrets_on', step.indexOf('\nrun ')))
    const read = execFileSync('bash', ['-c', `run() { printf '%s\\0' "$@"; }${call}`], { encoding: 'utf8' })
    expect(read.split('\0').slice(0, -1)).toEqual(setup(HOSTILE).flatMap(({ path, text }) => [path, text]))
  })

  test('reach tags of EC2', async () => {
    const tags = Object.fromEntries(HOSTILE.map((value, index) => [`${value}${index}`, value]))
    const { definition } = plan([])
    const { packer } = await render([], { base: ami, definition: { ...definition, ami: { ...definition.ami, tags } } })
    const map = /tags = \{\n([\s\S]*?)\n {2}\}/.exec(packer!.builtIn)![1]!
    const read = map.split('\n').flatMap((line) => {
      const [, key, value] = /^ {4}("(?:\\.|[^"\\])*") += ("(?:\\.|[^"\\])*")$/.exec(line) ?? []
      return key === undefined ? [] : [[readGo(readHcl(key)), readGo(readHcl(value!))]]
    })
    expect(Object.fromEntries(read)).toMatchObject(tags)
  })
})

test.skipIf(!hasSystemd)('systemd has nothing to say about any unit', async () => {
  const rendered = await render(HOSTILE)
  const paths = rendered.files.flatMap(({ path, text }) => {
    if (!path.endsWith('.service')) return []
    const file = join(dir, path.split('/').at(-1)!)
    // It looks whether programs are there.
    writeFileSync(file, text.replace(/^(Exec\w+=-?)\/\S+/gm, '$1/bin/true'))
    return [file]
  })
  writeFileSync(join(dir, 'docker.service'), '[Service]\nExecStart=/bin/true\n')
  const { stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...paths], { encoding: 'utf8' })
  expect({ stdout, stderr }).toEqual({ stdout: '', stderr: '' })
})

describe('what no machine could run is refused', () => {
  test.each([
    ['service_name_reserved', service('net')],
    ['service_name_reserved', service('swap')],
    ['bad_service_text', service('web', { env: { A: 'a\0b' } })],
    ['bad_service_text', service('web', { envFile: '/etc/a\nb' })],
    ['bad_service_text', service('web', { proof: { env: { A: 'one\ntwo' }, with: [], level: 'healthy' } })],
    ['bad_health_url', service('web', { health: { http: 'http://[::1' } })],
  ])('%s', async (code, one) => {
    await expect(renderMachine(plan([one]), new Map())).rejects.toMatchObject({ code, exit: 2 })
  })

  test('but not what only looks like it', async () => {
    await renderMachine(plan([service('web', { env: { A: '\\u0000' } }), service('proofs')]), new Map())
  })
})

test('a machine without services is one as well', async () => {
  const rendered = await renderMachine(plan([]), new Map())
  for (const { path, text } of scripts(rendered))
    if (!text.startsWith('#!/usr/bin/env python3')) expect(spawnSync('bash', ['-n'], { input: text }).status, path).toBe(0)
})

test('the written directory holds the template, and what goes to the machine', async () => {
  const rendered = await render()
  const out = join(dir, 'out')
  const written = await writeRendered(out, rendered, 'source {}\n')
  expect(written.slice(0, 2)).toEqual(['machine.pkr.hcl', 'machine/steps/prepare.sh'])
  expect(written).toContain('machine/files/usr/local/lib/bake/health-queue.1')
  expect(await readFile(join(out, 'machine.pkr.hcl'), 'utf8')).toBe('source {}\n')
  expect(statSync(join(out, 'machine/files/usr/local/bin/bake-release')).mode & 0o777).toBe(0o755)
  expect(statSync(join(out, 'machine/files/etc/bake/manifest.json')).mode & 0o777).toBe(0o644)
  expect(JSON.parse(await readFile(join(out, 'machine/files/etc/bake/manifest.json'), 'utf8'))).toMatchObject({
    version: 1,
    base: { disk: disk.sha256 },
    images: [{ service: 'web' }, { service: 'jobs' }, { service: 'edge' }, { service: 'queue.1' }],
  })
})
