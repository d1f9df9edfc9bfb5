import { globSync } from 'node:fs'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DescribeImagesCommand, DescribeLaunchTemplateVersionsCommand, EC2Client } from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BLOCK_BYTES } from '../../src/ami/direct/blocks.ts'
import { piecesWithData } from '../../src/io/copy-disk.ts'
import { convertImage } from '../../src/io/qemu-img.ts'
import { differences } from '../ami/direct/disk-file.ts'
import { type EbsDirect, startEbsDirect } from '../support/aws-gaps/ebs-direct.ts'
import { type Ec2Gaps, startEc2Gaps } from '../support/aws-gaps/ec2.ts'
import type { RunningBake } from '../support/bake.ts'
import { bakesDirectly } from '../support/bakes-directly.ts'
import { baseDisk } from '../support/base-disk.ts'
import { bootsMachines } from '../support/boots-machines.ts'
import { makeFleet, type TestFleet } from '../support/fleet.ts'
import { pageFiles } from '../support/machine-project.ts'
import { MOTO_REGION } from '../support/moto.ts'

const MINUTE_MS = 60_000
const GIB = 2 ** 30
const BASE = 'al2023-ami-2023.*-x86_64'
const MACHINE = `machine:
  base: { ami: { owner: amazon, name: "${BASE}" } }
  instance_type: t3.small
  launch_template: shop-web
  baker: direct
  ami: { boot_mode: legacy-bios }
  services:
    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/", within: 2m } }`

/** The disk that `bake base` makes, as the content of a public AMI: its blocks are in EBS's stand-in, the rest of the machine is real. */
describe.skipIf(!bakesDirectly)('an AMI without an instance', () => {
  let fleet: TestFleet
  let gaps: Ec2Gaps
  let ebs: EbsDirect
  let ec2: EC2Client
  let env: Record<string, string>
  let worker: RunningBake
  beforeAll(async () => {
    fleet = await makeFleet({ files: await pageFiles(), yaml: MACHINE })
    gaps = await startEc2Gaps(fleet.moto.endpoint)
    ebs = await startEbsDirect(fleet.moto.endpoint, gaps.store)
    const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
    ec2 = new EC2Client({ region: MOTO_REGION, endpoint: gaps.endpoint, credentials })
    env = { AWS_ENDPOINT_URL_EC2: gaps.endpoint, AWS_ENDPOINT_URL_EBS: ebs.endpoint, NO_COLOR: '1' }
    const Filters = [{ Name: 'name', Values: [BASE] }]
    const { Images = [] } = await ec2.send(new DescribeImagesCommand({ Owners: ['amazon'], Filters }))
    for (const image of Images) await fill(image.BlockDeviceMappings![0]!.Ebs!.SnapshotId!, image.OwnerId!)
    worker = await fleet.worker('one')
  }, 15 * MINUTE_MS)
  afterAll(async () => {
    ec2?.destroy()
    await worker?.[Symbol.asyncDispose]()
    await fleet?.[Symbol.asyncDispose]()
    await ebs?.[Symbol.asyncDispose]()
    await gaps?.[Symbol.asyncDispose]()
  })

  async function fill(id: string, ownerId: string) {
    const { disk } = await baseDisk()
    const blocks = new Map<number, string>()
    await using file = await open(disk)
    const { size } = await file.stat()
    for (const index of await piecesWithData(disk, BLOCK_BYTES)) {
      const block = Buffer.alloc(BLOCK_BYTES)
      await file.read(block, 0, BLOCK_BYTES, index * BLOCK_BYTES)
      blocks.set(index, await gaps.store.keep(block))
    }
    gaps.store.add({ region: MOTO_REGION, id, ownerId, volumeGib: Math.ceil(size / GIB), blocks, written: new Map(blocks) })
  }

  async function bake(release: string, ...more: string[]) {
    await fleet.repo.git('tag', release)
    const result = await fleet.bake(['ami', '--release', release, '--json', ...more], { env })
    expect(result.code, result.stderr.slice(-6000)).toBe(0)
    const { image } = JSON.parse(result.stdout) as { image: { id: string; snapshots: string[] } }
    const put = Number(/(\d+) blocks \([^)]*\) put to/.exec(result.stderr)?.[1])
    return { ...image, put, story: result.stderr }
  }
  /** Blocks in which the volume of a snapshot isn't the disk that this worker keeps. */
  async function differ(snapshot: string, run: string): Promise<number[]> {
    const dir = await mkdtemp(join(tmpdir(), 'bake-direct-aws-'))
    try {
      const [kept] = globSync(join(fleet.dir, `.bake/lineages/*/*-${run}.qcow2`))
      const path = join(dir, 'disk.raw')
      await convertImage({ path: kept!, format: 'qcow2' }, { path, format: 'raw' })
      await using file = await open(path)
      const { size } = await file.stat()
      const read = async (index: number) => {
        const block = Buffer.alloc(BLOCK_BYTES)
        await file.read(block, 0, BLOCK_BYTES, index * BLOCK_BYTES)
        return block
      }
      return await differences(gaps.store, { region: MOTO_REGION, id: snapshot }, { bytes: size, read })
    } finally {
      await rm(dir, { recursive: true })
    }
  }
  const imageOf = async (id: string) => (await ec2.send(new DescribeImagesCommand({ ImageIds: [id] }))).Images![0]!
  const tagsOf = async (id: string) => Object.fromEntries((await imageOf(id)).Tags!.map(({ Key, Value }) => [Key, Value]))

  test('two releases: the second puts what changed, and each volume is byte by byte the worker’s disk', {
    timeout: 15 * MINUTE_MS,
  }, async () => {
    const first = await bake('v1', '--no-verify')
    expect(first.story).toContain('copying the base')
    expect(await differ(first.snapshots[0]!, (await tagsOf(first.id))['bake:run']!)).toEqual([])
    await fleet.repo.commit({ 'web/index.html': 'another page\n' })
    const second = await bake('v2', '--no-verify')
    expect(second.put).toBeGreaterThan(0)
    expect(second.put).toBeLessThan(100)
    expect(gaps.store.get(MOTO_REGION, second.snapshots[0]!)!.parent).toBe(first.snapshots[0])
    expect(await differ(second.snapshots[0]!, (await tagsOf(second.id))['bake:run']!)).toEqual([])
    const image = await imageOf(second.id)
    expect(image).toMatchObject({
      ImdsSupport: 'v2.0',
      BootMode: 'legacy-bios',
      Architecture: 'x86_64',
      BlockDeviceMappings: [{ Ebs: { VolumeType: 'gp3' } }],
    })
  })

  test.skipIf(!bootsMachines)(
    'is proven by the same disk in a virtual machine before it is registered',
    { timeout: 20 * MINUTE_MS },
    async () => {
      await fleet.repo.commit({ 'web/index.html': 'a third page\n' })
      const { id } = await bake('v3')
      expect(await tagsOf(id)).toMatchObject({ 'bake:proven': 'true' })
      const { LaunchTemplateVersions: [version] = [] } = await ec2.send(
        new DescribeLaunchTemplateVersionsCommand({ LaunchTemplateName: 'shop-web' }),
      )
      expect(version).toMatchObject({ VersionNumber: 1, LaunchTemplateData: { ImageId: id } })
    },
  )
})
