import { createHash, randomBytes } from 'node:crypto'
import {
  CompleteSnapshotCommand,
  EBSClient,
  GetSnapshotBlockCommand,
  ListChangedBlocksCommand,
  ListSnapshotBlocksCommand,
  PutSnapshotBlockCommand,
  type PutSnapshotBlockCommandInput,
  StartSnapshotCommand,
  type StartSnapshotCommandInput,
} from '@aws-sdk/client-ebs'
import {
  DeleteSnapshotCommand,
  DescribeImagesCommand,
  DescribeSnapshotsCommand,
  RegisterImageCommand,
  type RegisterImageCommandInput,
} from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startEc2, type TestEc2 } from '../support/ec2.ts'
import { MOTO_REGION, uniqueName } from '../support/moto.ts'

/** The stand-in refuses what the API's document refuses. */

const SIZE = 524_288
const KEY = `arn:aws:kms:${MOTO_REGION}:123456789012:key/11111111-1111-1111-1111-111111111111`
let world: TestEc2
let ebs: EBSClient

beforeAll(async () => {
  world = await startEc2()
  const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
  ebs = new EBSClient({ region: MOTO_REGION, endpoint: world.ebs.endpoint, credentials, maxAttempts: 1 })
  world.gaps.store.kmsKeys.add(KEY)
}, 180_000)
afterAll(async () => {
  ebs?.destroy()
  await world?.[Symbol.asyncDispose]()
})
beforeEach(() => {
  const { store } = world.gaps
  Object.assign(store, { visibleAfterMs: 0, completeAfterMs: 0, lateVerdict: false, now: Date.now })
  store.encryptedByDefault.clear()
  world.ebs.fault = () => undefined
  world.ebs.putsPerSecond = Number.POSITIVE_INFINITY
})

const block = () => randomBytes(SIZE)
const digest = (data: Buffer) => createHash('sha256').update(data).digest()
const start = async (more: Partial<StartSnapshotCommandInput> = {}) =>
  (await ebs.send(new StartSnapshotCommand({ VolumeSize: 1, ...more }))).SnapshotId!
const put = (SnapshotId: string, BlockIndex: number, data: Buffer, more: Partial<PutSnapshotBlockCommandInput> = {}) =>
  ebs.send(
    new PutSnapshotBlockCommand({
      ...{ SnapshotId, BlockIndex, BlockData: data, DataLength: SIZE, Progress: 50 },
      ...{ Checksum: digest(data).toString('base64'), ChecksumAlgorithm: 'SHA256' },
      ...more,
    }),
  )
const complete = (SnapshotId: string, blocks: Buffer[], count = blocks.length) =>
  ebs.send(
    new CompleteSnapshotCommand({
      ...{ SnapshotId, ChangedBlocksCount: count, ChecksumAlgorithm: 'SHA256', ChecksumAggregationMethod: 'LINEAR' },
      Checksum: digest(Buffer.concat(blocks.map(digest))).toString('base64'),
    }),
  )
const made = async (blocks: Buffer[], more: Partial<StartSnapshotCommandInput> = {}) => {
  const id = await start(more)
  for (const [index, data] of blocks.entries()) await put(id, index, data)
  await complete(id, blocks)
  return id
}
const stored = (id: string) => world.gaps.store.get(MOTO_REGION, id)!
const invalid = (Reason?: string) => ({ name: 'ValidationException', ...(Reason && { Reason }) })
const describeSnapshot = async (id: string) =>
  (await world.client().send(new DescribeSnapshotsCommand({ SnapshotIds: [id] }))).Snapshots![0]!

describe('StartSnapshot', () => {
  test('makes a pending snapshot that EC2 knows, with its tags', async () => {
    const id = await start({ VolumeSize: 3, Tags: [{ Key: 'bake:run', Value: 'r' }] })
    const tags = { Tags: [{ Key: 'bake:run', Value: 'r' }] }
    expect(await describeSnapshot(id)).toMatchObject({ State: 'pending', VolumeSize: 3, Encrypted: false, ...tags })
  })

  test.for<[string, Partial<StartSnapshotCommandInput>, string]>([
    ['a volume of no size', { VolumeSize: 0 }, 'INVALID_VOLUME_SIZE'],
    ['a volume of more than 64 TiB', { VolumeSize: 65_537 }, 'INVALID_VOLUME_SIZE'],
    ['a timeout under 10 minutes', { Timeout: 9 }, 'INVALID_PARAMETER_VALUE'],
    ['a key without encryption', { KmsKeyArn: KEY }, 'INVALID_PARAMETER_VALUE'],
  ])('refuses %s', async ([, more, reason]) => {
    await expect(start(more)).rejects.toMatchObject(invalid(reason))
  })

  test('with the same token and the same parameters gives the same snapshot, with others a conflict', async () => {
    const ClientToken = uniqueName('token')
    const id = await start({ ClientToken })
    expect(await start({ ClientToken })).toBe(id)
    await expect(start({ ClientToken, VolumeSize: 2 })).rejects.toMatchObject({ name: 'ConflictException' })
  })

  test('hides the snapshot for as long as it is told', async () => {
    world.gaps.store.visibleAfterMs = 300
    const id = await start()
    await expect(put(id, 0, block())).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
      Reason: 'SNAPSHOT_NOT_FOUND',
      message: expect.stringContaining('does not exist'),
    })
    await expect(describeSnapshot(id)).rejects.toMatchObject({ name: 'InvalidSnapshot.NotFound' })
    await expect
      .poll(() =>
        put(id, 0, block()).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true)
  })
})

describe('a parent', () => {
  test('gives its blocks to the child, and may be deleted then', async () => {
    const [a, b, c] = [block(), block(), block()]
    const parent = await made([a, b])
    const child = await start({ ParentSnapshotId: parent })
    await put(child, 1, c)
    await complete(child, [c])
    await world.client().send(new DeleteSnapshotCommand({ SnapshotId: parent }))
    const { Blocks = [] } = await ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: child }))
    expect(Blocks.map(({ BlockIndex }) => BlockIndex)).toEqual([0, 1])
    const hashes = [...stored(child).blocks.values()]
    expect(hashes).toEqual([a, c].map((data) => digest(data).toString('hex')))
    expect(stored(child)).toMatchObject({ parent, lineage: [parent, child] })
  })

  test('must be there, completed, this account’s own, and no larger than the child', async () => {
    await expect(start({ ParentSnapshotId: 'snap-0123456789abcdef0' })).rejects.toMatchObject({ Reason: 'SNAPSHOT_NOT_FOUND' })
    await expect(start({ ParentSnapshotId: await start() })).rejects.toMatchObject(invalid('INVALID_SNAPSHOT_ID'))
    const large = await made([], { VolumeSize: 2 })
    await expect(start({ ParentSnapshotId: large })).rejects.toMatchObject(invalid('INVALID_VOLUME_SIZE'))
    const { Images = [] } = await world.client().send(new DescribeImagesCommand({ Owners: ['amazon'] }))
    const ParentSnapshotId = Images[0]!.BlockDeviceMappings![0]!.Ebs!.SnapshotId
    await expect(start({ ParentSnapshotId, VolumeSize: 15 })).rejects.toMatchObject({ name: 'AccessDeniedException' })
  })

  test('excludes Encrypted, true or false, and a key', async () => {
    const parent = await made([])
    await expect(start({ ParentSnapshotId: parent, Encrypted: true })).rejects.toMatchObject(invalid())
    await expect(start({ ParentSnapshotId: parent, Encrypted: false })).rejects.toMatchObject(invalid())
    await expect(start({ ParentSnapshotId: parent, KmsKeyArn: KEY })).rejects.toMatchObject(invalid())
  })
})

describe('encryption', () => {
  const outcome = async (more: Partial<StartSnapshotCommandInput>) => {
    const { encrypted, kmsKey } = stored(await start(more))
    return { encrypted, kmsKey }
  }
  const byDefault = () => world.gaps.store.encryptedByDefault.add(MOTO_REGION)
  const defaultKey = () => world.gaps.store.defaultKey(MOTO_REGION)

  test('without a parent is what is asked for, with the key that is named or the default one', async () => {
    expect(await outcome({})).toMatchObject({ encrypted: false })
    expect(await outcome({ Encrypted: false })).toMatchObject({ encrypted: false })
    expect(await outcome({ Encrypted: true })).toEqual({ encrypted: true, kmsKey: defaultKey() })
    expect(await outcome({ Encrypted: true, KmsKeyArn: KEY })).toEqual({ encrypted: true, kmsKey: KEY })
    await expect(outcome({ Encrypted: true, KmsKeyArn: `${KEY}0` })).rejects.toMatchObject({ name: 'AccessDeniedException' })
    await expect(outcome({ Encrypted: false, KmsKeyArn: KEY })).rejects.toMatchObject(invalid())
  })

  test('by default encrypts what has no parent, whatever is asked', async () => {
    byDefault()
    expect(await outcome({})).toEqual({ encrypted: true, kmsKey: defaultKey() })
    expect(await outcome({ Encrypted: false })).toEqual({ encrypted: true, kmsKey: defaultKey() })
  })

  test('is the parent’s; by default refuses an unencrypted one', async () => {
    const [plain, secret] = [await made([]), await made([], { Encrypted: true, KmsKeyArn: KEY })]
    expect(await outcome({ ParentSnapshotId: plain })).toMatchObject({ encrypted: false })
    expect(await outcome({ ParentSnapshotId: secret })).toEqual({ encrypted: true, kmsKey: KEY })
    byDefault()
    await expect(outcome({ ParentSnapshotId: plain })).rejects.toMatchObject(invalid())
    expect(await outcome({ ParentSnapshotId: secret })).toEqual({ encrypted: true, kmsKey: KEY })
  })

  test('makes absent blocks random', async () => {
    const { store } = world.gaps
    const [plain, secret] = [stored(await made([])), stored(await made([], { Encrypted: true }))]
    expect(store.absent(plain).equals(Buffer.alloc(SIZE))).toBe(true)
    expect(store.absent(secret).equals(store.absent(secret))).toBe(false)
  })
})

describe('PutSnapshotBlock', () => {
  test.for<[string, number, Partial<PutSnapshotBlockCommandInput>, string]>([
    ['a block past the volume’s end', 2048, {}, 'INVALID_BLOCK'],
    ['a length that isn’t 512 KiB', 0, { DataLength: 1024, BlockData: Buffer.alloc(1024) }, 'INVALID_BLOCK'],
    ['another checksum than the data’s', 0, { Checksum: digest(Buffer.alloc(1)).toString('base64') }, 'INVALID_BLOCK'],
    ['a progress over 100', 0, { Progress: 101 }, 'INVALID_PARAMETER_VALUE'],
  ])('refuses %s', async ([, index, more, reason]) => {
    await expect(put(await start(), index, block(), more)).rejects.toMatchObject(invalid(reason))
  })

  test('overwrites, but not what is completed', async () => {
    const id = await start()
    const [a, b] = [block(), block()]
    await put(id, 7, a)
    await put(id, 7, b)
    await complete(id, [b])
    expect([...stored(id).written]).toEqual([[7, digest(b).toString('hex')]])
    await expect(put(id, 7, a)).rejects.toMatchObject(invalid('INVALID_SNAPSHOT_ID'))
  })

  test('refuses more than the account may put in a second', async () => {
    world.ebs.putsPerSecond = 20
    const id = await start()
    const data = block()
    const answers = await Promise.allSettled(Array.from({ length: 30 }, (_, index) => put(id, index, data)))
    const refused = answers.flatMap((each) => (each.status === 'rejected' ? [each.reason] : []))
    expect(refused.length).toBeGreaterThan(10)
    expect(refused[0]).toMatchObject({ name: 'RequestThrottledException', Reason: 'ACCOUNT_THROTTLED' })
  })
})

describe('CompleteSnapshot', () => {
  test.for<[string, (blocks: Buffer[]) => [Buffer[], number?]]>([
    ['a count that isn’t that of the blocks written', (blocks) => [blocks, 1]],
    ['a checksum of other blocks', (blocks) => [[...blocks].reverse()]],
  ])('refuses %s', async ([, wrong]) => {
    const [id, blocks] = [await start(), [block(), block()]]
    for (const [index, data] of blocks.entries()) await put(id, index, data)
    await expect(complete(id, ...wrong(blocks))).rejects.toMatchObject(invalid())
    expect(await describeSnapshot(id)).toMatchObject({ State: 'pending' })
  })

  test('finds a block that was acknowledged and lost; told to, only in its workflow', async () => {
    world.ebs.fault = ({ index, action }) => (action === 'PutSnapshotBlock' && index === 1 ? 'forgotten' : undefined)
    const [id, blocks] = [await start(), [block(), block()]]
    for (const [index, data] of blocks.entries()) await put(id, index, data)
    await expect(complete(id, blocks)).rejects.toMatchObject({ message: expect.stringContaining('1 blocks were written, not 2') })
    world.gaps.store.lateVerdict = true
    await complete(id, blocks)
    await expect
      .poll(() => describeSnapshot(id))
      .toMatchObject({ State: 'error', StateMessage: expect.stringContaining('1 blocks') })
  })

  test('takes its time', async () => {
    world.gaps.store.completeAfterMs = 200
    const id = await made([block()])
    expect(await describeSnapshot(id)).toMatchObject({ State: 'pending' })
    await expect(ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: id }))).rejects.toMatchObject(invalid())
    await expect.poll(() => describeSnapshot(id)).toMatchObject({ State: 'completed' })
  })

  test('is too late after the timeout', async () => {
    const id = await start({ Timeout: 10 })
    world.gaps.store.now = () => Date.now() + 11 * 60_000
    expect(await describeSnapshot(id)).toMatchObject({ State: 'error' })
    await expect(complete(id, [])).rejects.toMatchObject(invalid())
  })
})

describe('reading', () => {
  test('goes by tokens, of the block that they were given for, in pages', async () => {
    const blocks = Array.from({ length: 120 }, () => Buffer.alloc(SIZE, randomBytes(8)))
    const id = await made(blocks)
    const first = await ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: id, MaxResults: 100 }))
    expect(first).toMatchObject({ VolumeSize: 1, BlockSize: SIZE })
    const second = await ebs.send(new ListSnapshotBlocksCommand({ SnapshotId: id, MaxResults: 100, NextToken: first.NextToken }))
    expect([first.Blocks?.length, second.Blocks?.length, second.NextToken]).toEqual([100, 20, undefined])
    const { BlockToken } = second.Blocks![0]!
    const read = await ebs.send(new GetSnapshotBlockCommand({ SnapshotId: id, BlockIndex: 100, BlockToken }))
    expect(Buffer.from(await read.BlockData!.transformToByteArray()).equals(blocks[100]!)).toBe(true)
    expect(read.Checksum).toBe(digest(blocks[100]!).toString('base64'))
    const other = ebs.send(new GetSnapshotBlockCommand({ SnapshotId: id, BlockIndex: 101, BlockToken }))
    await expect(other).rejects.toMatchObject(invalid('INVALID_BLOCK_TOKEN'))
  })

  test('compares snapshots of one lineage only', async () => {
    const [a, b, c] = [block(), block(), block()]
    const parent = await made([a, b])
    const child = await start({ ParentSnapshotId: parent })
    await put(child, 0, a)
    await put(child, 5, c)
    await complete(child, [a, c])
    const changed = (FirstSnapshotId: string, SecondSnapshotId: string) =>
      ebs.send(new ListChangedBlocksCommand({ FirstSnapshotId, SecondSnapshotId }))
    const { ChangedBlocks = [] } = await changed(parent, child)
    expect(ChangedBlocks.map(({ BlockIndex, FirstBlockToken }) => [BlockIndex, FirstBlockToken])).toEqual([[5, undefined]])
    await expect(changed(parent, await made([a]))).rejects.toMatchObject(invalid('UNRELATED_SNAPSHOTS'))
  })
})

describe('RegisterImage', () => {
  const register = (SnapshotId: string, more: Partial<RegisterImageCommandInput> = {}) =>
    world.client().send(
      new RegisterImageCommand({
        ...{ Name: uniqueName('image'), Architecture: 'x86_64', VirtualizationType: 'hvm', RootDeviceName: '/dev/xvda' },
        BlockDeviceMappings: [{ DeviceName: '/dev/xvda', Ebs: { SnapshotId, VolumeType: 'gp3' } }],
        ...more,
      }),
    )

  test('keeps what it is told, and its snapshot while it is registered', async () => {
    const id = await made([block()])
    const { ImageId } = await register(id, {
      ...{ BootMode: 'uefi-preferred', TpmSupport: 'v2.0', ImdsSupport: 'v2.0', EnaSupport: true, SriovNetSupport: 'simple' },
      TagSpecifications: [{ ResourceType: 'image', Tags: [{ Key: 'a', Value: 'b' }] }],
    })
    const { Images } = await world.client().send(new DescribeImagesCommand({ ImageIds: [ImageId!] }))
    expect(Images).toMatchObject([
      {
        ...{ Architecture: 'x86_64', BootMode: 'uefi-preferred', TpmSupport: 'v2.0', ImdsSupport: 'v2.0', EnaSupport: true },
        ...{ SriovNetSupport: 'simple', RootDeviceName: '/dev/xvda', RootDeviceType: 'ebs', VirtualizationType: 'hvm' },
        BlockDeviceMappings: [{ DeviceName: '/dev/xvda', Ebs: { SnapshotId: id, VolumeSize: 1, VolumeType: 'gp3' } }],
        Tags: [{ Key: 'a', Value: 'b' }],
      },
    ])
    const removal = world.client().send(new DeleteSnapshotCommand({ SnapshotId: id }))
    await expect(removal).rejects.toMatchObject({ name: 'InvalidSnapshot.InUse' })
  })

  test('refuses a snapshot that is pending or unknown, a name twice, tags on anything else', async () => {
    await expect(register(await start())).rejects.toMatchObject({ name: 'IncorrectState' })
    await expect(register('snap-0123456789abcdef0')).rejects.toMatchObject({ name: 'InvalidSnapshot.NotFound' })
    const [id, Name] = [await made([]), uniqueName('image')]
    await register(id, { Name })
    await expect(register(id, { Name })).rejects.toMatchObject({ name: 'InvalidAMIName.Duplicate' })
    const TagSpecifications = [{ ResourceType: 'snapshot' as const, Tags: [{ Key: 'a', Value: 'b' }] }]
    await expect(register(id, { TagSpecifications })).rejects.toMatchObject({ name: 'InvalidParameterValue' })
  })
})

test('a call that the document doesn’t know fails the test at the end', async () => {
  const { startEbsDirect } = await import('../support/aws-gaps/ebs-direct.ts')
  const other = await startEbsDirect(world.moto.endpoint, world.gaps.store)
  expect((await fetch(`${other.endpoint}/snapshots/x/unheard-of`)).status).toBe(404)
  await expect(other[Symbol.asyncDispose]()).rejects.toThrow('/snapshots/x/unheard-of')
})
