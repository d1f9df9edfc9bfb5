import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { chooseBase, pinBase, pinnedBase } from '../../src/ami/base-pin.ts'
import type { AmiBase } from '../../src/ami/machine.ts'
import type { Ec2Image } from '../../src/io/ec2-image.ts'
import type { ImageQuery } from '../../src/io/ec2-images.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'

let dir: string
let ledger: DirectoryLedger
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-pin-'))
  ledger = new DirectoryLedger(dir)
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const name = { region: 'us-east-1', owner: 'amazon', name: 'al2023-ami-2023.*-x86_64' }
const base = (id: string): AmiBase => ({
  ...{ kind: 'ami', id, region: 'us-east-1', name: 'al2023', ownerId: '1', createdAt: 1, architecture: 'amd64' },
  ...{ rootDevice: '/dev/xvda', virtualBytes: 8e9 },
})

test('a name stands for nothing before the first bake, then for that one’s base until another is taken', async () => {
  expect(await pinnedBase(name, ledger)).toBeUndefined()
  await pinBase(name, base('ami-1'), ledger)
  expect(await pinnedBase({ ...name }, ledger)).toEqual(base('ami-1'))
  await pinBase(name, base('ami-2'), ledger)
  expect(await pinnedBase(name, ledger)).toMatchObject({ id: 'ami-2' })
})

test('another region, owner or name is another base', async () => {
  await pinBase(name, base('ami-1'), ledger)
  for (const other of [{ region: 'eu-west-1' }, { owner: 'self' }, { name: 'al2023-*' }])
    expect(await pinnedBase({ ...name, ...other }, ledger)).toBeUndefined()
})

test('who was told which AMI takes that one, if the name fits it or stood for it', async () => {
  const image = (id: string, fits = true): Ec2Image & { fits: boolean } =>
    ({
      ...{
        id,
        region: 'us-east-1',
        name: 'al2023',
        ownerId: '1',
        createdAt: 1,
        architecture: 'x86_64',
        state: 'available',
        fits,
      },
      ...{ rootDevice: '/dev/xvda', rootDeviceType: 'ebs', rootBytes: 8e9, productCodes: [], snapshots: [], tags: {} },
    }) as never
  const all = [image('ami-3'), image('ami-2'), image('ami-9', false)]
  const find = async (query: ImageQuery) => all.filter((each) => ('id' in query ? each.id === query.id : each.fits))
  const world = { ledger, images: { region: 'us-east-1', find }, tell: () => {} }
  const { region: _, ...wanted } = { ...name, name: 'al2023-chosen-*' }
  const choose = (id?: string) => chooseBase(wanted, { refresh: false, ...(id !== undefined && { id }) }, world)
  expect((await choose()).base.id).toBe('ami-3')
  const second = await choose('ami-2')
  expect(second.base.id).toBe('ami-2')
  await second.keep()
  expect((await choose()).base.id).toBe('ami-2')
  expect((await choose('ami-3')).base.id).toBe('ami-3')
  await expect(choose('ami-9')).rejects.toMatchObject({ code: 'base_mismatch' })
  // It is listed no more, and stood for the name.
  all.length = 0
  expect((await choose('ami-2')).base.id).toBe('ami-2')
})
