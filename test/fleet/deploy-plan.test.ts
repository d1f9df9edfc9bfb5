import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { type DeployAsk, planDeploy } from '../../src/fleet/deploy-plan.ts'
import type { DeployWorld } from '../../src/fleet/deploy-world.ts'
import type { Group } from '../../src/io/autoscaling-groups.ts'
import { parseImage } from '../../src/io/ec2-image.ts'
import type { TemplateVersion } from '../../src/io/ec2-templates.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'

/** What AWS says is given here; that it says so is shown in test/e2e/deploy.test.ts. */

const TEMPLATE = { id: 'lt-1', name: 'web' }
const version = (number: number, more: Partial<TemplateVersion> = {}): TemplateVersion => ({
  ...{ number, description: '', imageId: `ami-${number}`, instanceType: 't3.small', others: '' },
  tags: { instance: { 'bake:release': `v${number}` } },
  ...more,
})
const group = (more: Partial<Group> = {}): Group => ({
  ...{ name: 'shop', min: 1, desired: 1, max: 2, mixed: false, suspended: [], template: { ...TEMPLATE, version: '1' } },
  ...{ protectsNew: false, targetGroups: [], otherBalancers: [], warmPool: false },
  instances: [{ id: 'i-1', lifecycle: 'InService', healthy: true, protected: false, template: { ...TEMPLATE, version: '1' } }],
  ...more,
})
const image = (ImageId: string, more: object = {}) =>
  parseImage(
    { ImageId, OwnerId: '1', State: 'available', CreationDate: '2026-01-01T00:00:00Z', Architecture: 'x86_64', ...more },
    'us-east-1',
  )
const ask: DeployAsk = {
  ...{ kind: 'deploy', strategy: 'rolling', stack: 'production', group: 'shop' },
  rolling: { minHealthy: 100, maxHealthy: 110, checkpoints: [], alarms: [], skipMatching: true },
  target: { release: 'v2', image: 'ami-2', template: { name: 'web', version: 2 } },
}

interface Said {
  group?: Partial<Group>
  versions?: TemplateVersion[]
  image?: object | undefined
}
let ledger: DirectoryLedger
beforeEach(async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-plan-'))
  ledger = new DirectoryLedger(dir)
  return () => rm(dir, { recursive: true })
})
const plan = (said: Said = {}, target = ask.target) =>
  planDeploy({ ...ask, target }, {
    ledger,
    groups: { region: 'us-east-1', get: async () => group(said.group) },
    refreshes: { list: async () => [] },
    templates: { versions: async () => said.versions ?? [version(2), version(1)] },
    images: { get: async (id: string) => ('image' in said && said.image === undefined ? undefined : image(id, said.image)) },
    instances: { type: async (name: string) => ({ name, architectures: ['x86_64'], bootModes: [] }) },
    ...{ project: 'shop', by: 'ann@here' },
  } as unknown as DeployWorld)

test('says from what to what, and whether that is so already', async () => {
  expect(await plan()).toMatchObject({
    ...{ n: 0, current: false },
    document: {
      from: { release: 'v1', image: 'ami-1', template: { version: 1 } },
      to: { release: 'v2', template: { id: 'lt-1', version: 2 } },
    },
  })
  const one = { release: 'v1', image: 'ami-1', template: { name: 'web', version: 1 } }
  expect(await plan({}, one)).toMatchObject({ current: true })
  const [sick] = group().instances
  expect(await plan({ group: { instances: [{ ...sick!, healthy: false }] } }, one)).toMatchObject({ current: false })
})

test.each<[string, Said, string]>([
  ['another launch template', { group: { template: { id: 'lt-2', name: 'other', version: '1' } } }, 'launch_template_other'],
  ['several instance types', { group: { mixed: true } }, 'group_mixed'],
  ['a version that is gone', { versions: [version(1)] }, 'launch_version_gone'],
  ['the group’s own version that is gone', { versions: [version(2)] }, 'launch_version_gone'],
  ['a version of another image', { versions: [version(2, { imageId: 'ami-9' }), version(1)] }, 'launch_version_gone'],
  ['an image that is gone', { image: undefined }, 'image_gone'],
  ['an image that failed', { image: { State: 'failed' } }, 'image_gone'],
  ['an image of another processor', { image: { Architecture: 'arm64' } }, 'wrong_architecture'],
  ['a group whose image is a name', { versions: [version(2), version(1, { imageId: 'resolve:ssm:/base' })] }, 'group_unnumbered'],
  ['a group that follows the default', { group: { template: { ...TEMPLATE, version: '$Default' } } }, 'group_unnumbered'],
])('refuses %s', async (_, said, code) => {
  await expect(plan(said)).rejects.toMatchObject({ code, exit: 2, next: expect.any(String) })
})

test('the command that names the number has the group and the number that runs', async () => {
  const error = await plan({ group: { template: { ...TEMPLATE, version: '$Latest' } } }).catch((why: unknown) => why)
  expect(error).toMatchObject({
    next: expect.stringContaining("--auto-scaling-group-name shop --launch-template 'LaunchTemplateName=web,Version=1'"),
  })
})
