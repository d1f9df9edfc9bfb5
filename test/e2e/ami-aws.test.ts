import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import {
  DescribeImagesCommand,
  DescribeInstancesCommand,
  DescribeLaunchTemplatesCommand,
  DescribeLaunchTemplateVersionsCommand,
  DescribeSecurityGroupsCommand,
  DescribeSnapshotsCommand,
  EC2Client,
} from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { AwsProofNetwork } from '../../src/io/aws-proof-network.ts'
import { freePort } from '../../src/io/host/ports.ts'
import { desiredResources } from '../../src/setup/desired.ts'
import { type Ec2Gaps, startEc2Gaps } from '../support/aws-gaps/ec2.ts'
import type { RunningBake } from '../support/bake.ts'
import { baseDisk } from '../support/base-disk.ts'
import { bootsMachines } from '../support/boots-machines.ts'
import { makeFleet, type TestFleet } from '../support/fleet.ts'
import { playInstances } from '../support/instances.ts'
import { pageFiles } from '../support/machine-project.ts'
import { MOTO_REGION } from '../support/moto.ts'

/** Two virtual machines one after the other in software emulation, on a busy machine. */
const BAKE_MS = 1_800_000
const MINUTE_MS = 60_000
const BASE = 'al2023-ami-2023.*-x86_64'
const MACHINE = `worker: { bakes: true }
machine:
  base: { ami: { owner: amazon, name: "${BASE}" } }
  instance_type: t3.small
  launch_template: shop-web
  ami: { tags: { team: web }, protect: true }
  services:
    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/", within: 2m } }
    page: { image: web, after: [web], ports: ["81:3000"], health: { http: "http://127.0.0.1:81/", within: 2m } }`
const hasTools = ['packer', 'qemu-system-x86_64'].every((tool) => spawnSync(tool, ['--version']).error === undefined)

let fleet: TestFleet
let gaps: Ec2Gaps
let ec2: EC2Client
let env: Record<string, string>
let worker: RunningBake
beforeAll(async () => {
  fleet = await makeFleet({ files: await pageFiles(), yaml: MACHINE })
  gaps = await startEc2Gaps(fleet.moto.endpoint)
  const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
  ec2 = new EC2Client({ region: MOTO_REGION, endpoint: gaps.endpoint, credentials })
  env = {
    AWS_ENDPOINT_URL_EC2: gaps.endpoint,
    BAKE_EC2_SSH: `127.0.0.1:${await freePort()}`,
    // Packer looks as seldom as EC2 is slow.
    AWS_POLL_DELAY_SECONDS: '1',
  }
  for (const [name, value] of Object.entries({ ...fleet.moto.env, ...env })) vi.stubEnv(name, value)
  const machine = { project: 'shop', region: MOTO_REGION, copies: [] }
  await new AwsProofNetwork(MOTO_REGION).create(desiredResources({ partition: 'aws', machine })[0]!)
  await fleet.repo.git('tag', 'v1')
  worker = await fleet.worker('one', { env })
}, 3 * MINUTE_MS)
afterAll(async () => {
  vi.unstubAllEnvs()
  ec2?.destroy()
  await worker?.[Symbol.asyncDispose]()
  await fleet?.[Symbol.asyncDispose]()
  await gaps?.[Symbol.asyncDispose]()
})

const instances = async () => {
  const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({}))
  return Reservations.flatMap(({ Instances = [] }) => Instances)
}
/** What is left in EC2 of bakes that have ended. */
async function left(): Promise<string[]> {
  const alive = (await instances()).filter(({ State }) => State?.Name !== 'terminated').map(({ InstanceId }) => InstanceId!)
  const { SecurityGroups = [] } = await ec2.send(new DescribeSecurityGroupsCommand({}))
  const groups = SecurityGroups.map(({ GroupName = '' }) => GroupName).filter((name) => /^(?:bake-[^p]|packer)/.test(name))
  return [...alive, ...groups]
}
const tagsOf = (tags: { Key?: string; Value?: string }[] | undefined) =>
  Object.fromEntries((tags ?? []).map(({ Key, Value }) => [Key, Value]))

/** The Packer that a bake has started: a shell leads its group. */
async function packerOf({ pid }: RunningBake): Promise<number> {
  const childrenOf = async (of: string | number) =>
    (await readFile(`/proc/${of}/task/${of}/children`, 'utf8').catch(() => '')).trim().split(' ').filter(Boolean)
  const children = (await Promise.all((await childrenOf(pid!)).map(childrenOf))).flat()
  const names = await Promise.all(children.map((child) => readFile(`/proc/${child}/comm`, 'utf8').catch(() => '')))
  return Number(children[names.findIndex((name) => name.trim() === 'packer')])
}

describe.skipIf(!hasTools)('while it waits for its instance', () => {
  const ends: [string, number, (running: RunningBake) => Promise<unknown>][] = [
    ['a bake is stopped', 130, async (running) => running.kill('SIGINT')],
    ['Packer is killed', 3, async (running) => process.kill(await packerOf(running), 'SIGKILL')],
  ]
  test.for(ends)('%s: nothing is left', { timeout: 5 * MINUTE_MS }, async ([, exit, end]) => {
    await using running = fleet.start(['ami', '--release', 'v1', '--here'], { env })
    await running.waitFor('stderr', /Waiting for SSH/, 4 * MINUTE_MS)
    const [instance] = (await instances()).filter(({ State }) => State?.Name === 'running')
    expect(tagsOf(instance?.Tags)).toMatchObject({ 'bake:project': 'shop', 'bake:run': expect.any(String) })
    await end(running)
    const { code, stderr } = await running.wait()
    expect(code, stderr).toBe(exit)
    expect(await left()).toEqual([])
    const { Images = [] } = await ec2.send(new DescribeImagesCommand({ Owners: ['self'] }))
    expect(Images).toEqual([])
  })
})

test.skipIf(!hasTools || !bootsMachines)(
  'a release becomes a proven AMI and a launch template version on a worker, though who asked is gone: Packer’s amazon-ebs, its instances played by virtual machines',
  { timeout: BAKE_MS },
  async () => {
    const { disk } = await baseDisk()
    await using played = await playInstances({ moto: fleet.moto, disk, sshPort: Number(env.BAKE_EC2_SSH!.split(':')[1]) })
    gaps.console = (id) => played.console(id)
    const consoles = () => played.ids.map((id) => `${id}:\n${played.console(id).slice(-4000)}`).join('\n')
    await using gone = fleet.start(['ami', '--release', 'v1', '--progress', 'plain'], { env })
    await Promise.race([gone.waitFor('stderr', /^machine {2}boot$/m, 5 * MINUTE_MS), played.failed])
    gone.kill('SIGKILL')
    await gone.wait()
    // Asks for the same: its job finds what the first one's bake has made.
    const result = await Promise.race([fleet.bake(['ami', '--release', 'v1', '--json'], { env }), played.failed])
    expect(result.code, `${result.stderr}\n${consoles()}`).toBe(0)
    expect(JSON.parse(result.stdout)).toMatchObject({ status: 'found', launch_template: { name: 'shop-web', version: 1 } })

    const { Images = [] } = await ec2.send(new DescribeImagesCommand({ Owners: ['self'] }))
    expect(Images).toHaveLength(1)
    const [image] = Images
    const bakes = { 'bake:project': 'shop', 'bake:proven': 'true', 'bake:inputs': expect.stringMatching(/^[0-9a-f]{64}$/) }
    expect(tagsOf(image!.Tags)).toMatchObject({ ...bakes, Name: image!.Name, team: 'web', 'bake:run': expect.any(String) })
    expect(image).toMatchObject({ ImdsSupport: 'v2.0', DeregistrationProtection: 'enabled-without-cooldown' })
    const SnapshotIds = [image!.BlockDeviceMappings![0]!.Ebs!.SnapshotId!]
    const { Snapshots = [] } = await ec2.send(new DescribeSnapshotsCommand({ SnapshotIds }))
    expect(tagsOf(Snapshots[0]!.Tags)).toMatchObject(bakes)

    const LaunchTemplateName = 'shop-web'
    const found = await ec2.send(new DescribeLaunchTemplateVersionsCommand({ LaunchTemplateName }))
    const [version, ...others] = found.LaunchTemplateVersions!
    expect(others).toEqual([])
    const commit = (await fleet.repo.git('rev-parse', 'v1')).trim()
    expect(version).toMatchObject({
      VersionNumber: 1,
      VersionDescription: `shop v1 (${commit.slice(0, 12)}), by bake`,
      LaunchTemplateData: { ImageId: image!.ImageId, InstanceType: 't3.small' },
    })
    const userData = Buffer.from(version!.LaunchTemplateData!.UserData!, 'base64').toString()
    expect(userData).toContain(`#bake release=v1 sha=${commit}\n`)

    expect(played.ids).toHaveLength(2)
    const proof = played.console(played.ids[1]!)
    for (const name of ['web', 'page']) expect(proof).toMatch(new RegExp(`"name":"${name}","state":"healthy"`))
    expect(await left()).toEqual([])

    const before = { ...gaps.calls }
    const again = await fleet.bake(['ami', '--release', 'v1'], { env })
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect(again.stdout).toContain(image!.ImageId)
    expect(gaps.calls).toMatchObject({ RunInstances: before.RunInstances, CreateImage: 1 })
    const { LaunchTemplates = [] } = await ec2.send(new DescribeLaunchTemplatesCommand({}))
    expect(LaunchTemplates).toMatchObject([{ LaunchTemplateName, LatestVersionNumber: 1 }])
  },
)
