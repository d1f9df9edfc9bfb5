import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { machineChecks } from '../../src/doctor/machines.ts'
import type { DoctorWorld, Finding } from '../../src/doctor/types.ts'
import { openWorld } from '../../src/doctor/world.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-doctor-'))
})
afterEach(() => rm(dir, { recursive: true }))

const FIT: Partial<DoctorWorld> = {
  linux: true,
  diskHelper: async () => 'root',
  missingTools: () => [],
  missingForDisks: () => [],
  kvm: async () => true,
}

async function look(machine: string, has: Partial<DoctorWorld> = {}): Promise<Record<string, Finding>> {
  await writeFile(join(dir, 'bake.yaml'), `project: p\nimages: { a: . }\n${machine}`)
  const world = { ...openWorld(dir), ...FIT, ...has }
  const signal = new AbortController().signal
  return Object.fromEntries(await Promise.all(machineChecks.map(async ({ id, run }) => [id, await run(world, signal)] as const)))
}
const machine = (base: string, more = '') => `machine: { base: ${base}${more}, services: { a: { image: a } } }\n`
const disk = machine('{ disk: base.raw }')
const AWS =
  'aws: { region: us-east-1, queue: q, bucket: b-1 }\nregistry: r.example.com/p\nrepository: https://example.com/p.git\n'
const ami = (more = '') => AWS + machine('{ ami: { id: ami-01234567 } }', more)

test('a project without machine images needs nothing for them', async () => {
  for (const finding of Object.values(await look(''))) expect(finding.status).toBe('skipped')
})

test('a machine that has everything bakes disks directly', async () => {
  for (const finding of Object.values(await look(disk))) expect(finding.status).toBe('ok')
})

test('what direct bakes lack is a warning with its fix, devices apart from programs', async () => {
  const lacks = await look(disk, { diskHelper: async () => undefined, missingForDisks: () => ['slirp4netns', '/dev/fuse'] })
  expect(lacks.direct_bakes).toMatchObject({
    status: 'warning',
    detail: 'nobody mounts disks for this user, no slirp4netns, no /dev/fuse: Packer bakes, slowly',
    fix: expect.stringMatching(/bin\/setup --machines.*Permissions/),
  })
  const devices = await look(disk, { missingForDisks: () => ['/dev/fuse'] })
  expect(devices.direct_bakes!.fix).not.toContain('bin/setup')
})

test('so is a missing Packer, QEMU or KVM', async () => {
  const missingTools = (programs: string[]) => programs.filter((name) => /^(?:packer|mcopy)$/.test(name))
  const lacks = await look(disk, { missingTools })
  expect(lacks.packer).toMatchObject({ status: 'warning', detail: expect.stringContaining("what can't be baked directly") })
  expect(lacks.qemu).toMatchObject({ status: 'warning', detail: 'no mcopy: nothing can be proven here' })
  const slow = await look(disk, { kvm: async () => false })
  expect(slow.qemu).toMatchObject({ status: 'warning', detail: expect.stringContaining('ten times slower') })
})

test('AMIs by Packer need neither QEMU nor root, those that are baked directly do', async () => {
  expect(await look(ami())).toMatchObject({
    packer: { status: 'ok' },
    qemu: { status: 'skipped' },
    direct_bakes: { status: 'skipped' },
  })
  const direct = await look(ami(', baker: direct'), { diskHelper: async () => undefined })
  expect(direct).toMatchObject({ qemu: { status: 'ok' }, direct_bakes: { status: 'warning' } })
})
