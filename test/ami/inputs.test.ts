import { expect, test } from 'vitest'
import { canonical, inputsHash, proofHash } from '../../src/ami/inputs.ts'
import type { AmiBase, DiskBase, MachinePlan, Rendered } from '../../src/ami/machine.ts'
import { parseConfig } from '../../src/config.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
const disk: DiskBase = {
  ...{ kind: 'disk', path: '/srv/base.raw', format: 'raw', sha256: 'b'.repeat(64) },
  ...{ virtualBytes: 4e9, freeBytes: 3e9, architecture: 'amd64', firmware: 'bios' },
}
const ami: AmiBase = {
  ...{ kind: 'ami', id: 'ami-0123456789abcdef0', region: 'us-east-1', name: 'debian', ownerId: '1', createdAt: 1 },
  ...{ architecture: 'amd64', rootDevice: '/dev/xvda', virtualBytes: 8e9 },
}

function plan(more = '', base: MachinePlan['base'] = disk): MachinePlan {
  const { machine } = parseConfig(
    `project: shop\nimages: { web: {}, db: {} }\nmachine:\n  base: { disk: base.raw }\n  services:\n    web: { image: web, proof: { with: { db: { image: db } } } }\n${more}`,
    'bake.yaml',
  )
  const reference = { image: 'web', repository: 'localhost:5000/shop/web', digest: DIGEST }
  return {
    project: 'shop',
    release: { name: 'v1', commit: 'c'.repeat(40) },
    definition: machine!,
    architecture: 'amd64',
    base,
    services: machine!.services.map((service) => ({ ...service, reference })),
    standIns: [{ image: 'db', repository: 'localhost:5000/shop/db', digest: DIGEST }],
    setup: [{ path: 'tune.sh', text: 'true\n' }],
    inputs: '',
    rendered: {
      files: [
        { path: '/etc/b', text: 'b', mode: 0o644 },
        { path: '/etc/a', text: 'a', mode: 0o644 },
      ],
      steps: [
        { path: 'steps/prepare.sh', text: '1', mode: 0o755 },
        { path: 'steps/clean.sh', text: '2', mode: 0o755 },
      ],
      proof: 'true\n',
    },
  }
}

const hash = (one: MachinePlan) => inputsHash(one, one.rendered)
const rendered = (one: MachinePlan, change: (rendered: Rendered) => Partial<Rendered>): MachinePlan => ({
  ...one,
  rendered: { ...one.rendered, ...change(one.rendered) },
})
const one = plan()

test('canonical JSON doesn’t know in which order a value was put together', () => {
  expect(canonical({ b: [1, { d: null, c: undefined }], a: 'é"' })).toBe('{"a":"é\\"","b":[1,{"d":null}]}')
  expect(canonical({ a: 'é"', b: [1, { d: null }] })).toBe(canonical({ b: [1, { d: null }], a: 'é"' }))
})

test.each<[string, MachinePlan]>([
  ['the release’s name', { ...one, release: { name: 'v2', commit: one.release.commit } }],
  ['its commit', { ...one, release: { name: 'v1', commit: 'd'.repeat(40) } }],
  ['the project', { ...one, project: 'other' }],
  ['where the base lies', { ...one, base: { ...disk, path: '/elsewhere/base.raw' } }],
  ['what the base has free', { ...one, base: { ...disk, freeBytes: 1 } }],
  ['an image’s size', { ...one, services: one.services.map((it) => ({ ...it, reference: { ...it.reference, sizeBytes: 9 } })) }],
  ['a stand-in’s digest', { ...one, standIns: [] }],
  ['the proof’s script', rendered(one, () => ({ proof: 'false\n' }))],
  ['the order of files', rendered(one, ({ files }) => ({ files: [...files].reverse() }))],
  ['how an AMI would be registered, for a disk', plan('  ami: { tags: { team: a } }')],
  ['the launch template', plan('  launch_template: shop-web')],
])('%s doesn’t change the hash', (_, other) => {
  expect(hash(other)).toBe(hash(one))
})

test.each<[string, MachinePlan]>([
  ['the base', { ...one, base: { ...disk, sha256: 'c'.repeat(64) } }],
  ['the architecture', { ...one, architecture: 'arm64' }],
  [
    'an image’s digest',
    {
      ...one,
      services: one.services.map((it) => ({ ...it, reference: { ...it.reference, digest: `sha256:${'e'.repeat(64)}` } })),
    },
  ],
  ['a service more', { ...one, services: [...one.services, { ...one.services[0]!, name: 'jobs' }] }],
  ['a file’s text', rendered(one, ({ files }) => ({ files: files.map((file) => ({ ...file, text: `${file.text}!` })) }))],
  ['a file’s mode', rendered(one, ({ files }) => ({ files: files.map((file) => ({ ...file, mode: 0o755 })) }))],
  ['the order of steps', rendered(one, ({ steps }) => ({ steps: [...steps].reverse() }))],
  ['the Packer template', rendered(one, () => ({ packer: { builtIn: 'a', plugins: 'b' } }))],
  ['a setup script', { ...one, setup: [{ path: 'tune.sh', text: 'false\n' }] }],
  ['the baker', plan('  baker: direct')],
])('%s changes the hash', (_, other) => {
  expect(hash(other)).not.toBe(hash(one))
})

test('an AMI’s hash has its id, its region and how it is registered', () => {
  const first = hash(plan('', ami))
  expect(hash(plan('', { ...ami, name: 'renamed', createdAt: 2 }))).toBe(first)
  expect(hash(plan('', { ...ami, id: 'ami-0123456789abcdef1' }))).not.toBe(first)
  expect(hash(plan('', { ...ami, region: 'eu-west-1' }))).not.toBe(first)
  expect(hash(plan('  ami: { tags: { team: a } }', ami))).not.toBe(first)
  expect(hash(plan('  ami: { regions: [eu-west-1, us-west-2] }', ami))).toBe(
    hash(plan('  ami: { regions: [us-west-2, eu-west-1] }', ami)),
  )
})

test('what a proof has to show has a hash of its own', () => {
  const proof = proofHash(one)
  expect(proofHash({ ...one, services: one.services.map((it) => ({ ...it, memoryBytes: 1 })) })).toBe(proof)
  expect(proofHash({ ...one, standIns: [] })).not.toBe(proof)
  const started = one.services.map((it) => ({ ...it, proof: { ...it.proof, level: 'started' as const } }))
  expect(proofHash({ ...one, services: started })).not.toBe(proof)
})
