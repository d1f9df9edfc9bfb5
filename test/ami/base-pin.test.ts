import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { pinBase, pinnedBase } from '../../src/ami/base-pin.ts'
import type { AmiBase } from '../../src/ami/machine.ts'
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
