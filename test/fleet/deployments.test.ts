import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { create, type DeploymentDocument, newest, readDeployments, refresh, take } from '../../src/fleet/deployments.ts'
import { deliveredVersions } from '../../src/fleet/rollback.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { keys } from '../../src/names.ts'

let dir: string
let ledger: DirectoryLedger
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-deployments-'))
  ledger = new DirectoryLedger(dir)
  return () => rm(dir, { recursive: true })
})

const launch = (version: number) => ({
  release: `v${version}`,
  image: `ami-${version}`,
  template: { id: 'lt-1', name: 'web', version },
})
const document = (from: number, to: number, stack = 'production'): DeploymentDocument => ({
  ...{ version: 1, project: 'shop', stack, kind: 'deploy', strategy: 'rolling', group: 'web', region: 'us-east-1' },
  ...{ from: launch(from), to: launch(to), by: 'ann@here', at: 1 },
  rolling: { minHealthy: 100, maxHealthy: 110, checkpoints: [], alarms: [], skipMatching: true },
})
type Status = 'deployed' | 'rolled-back' | 'failed'
/** `begun` false: Auto Scaling refused it. */
const deployed = async (n: number, from: number, to: number, status: Status = 'deployed', begun = true) => {
  const made = (await create(ledger, n, document(from, to)))!
  const refreshed = begun ? await take(ledger, made, { step: 'refresh', id: `r-${n}` }, 'ann@here') : made
  return await take(ledger, refreshed, { step: 'ended', status }, 'ann@here')
}

test('each number and each step is taken once; who comes late gets what is there', async () => {
  const both = await Promise.all([create(ledger, 0, document(1, 2)), create(ledger, 0, document(1, 3))])
  const mine = both.find((made) => made !== undefined)!
  expect(both.filter((made) => made !== undefined)).toHaveLength(1)
  const steps = await Promise.all([
    take(ledger, mine, { step: 'starting' }, 'ann@here'),
    take(ledger, mine, { step: 'ended', status: 'rolled-back' }, 'bob@there'),
  ])
  expect(steps[0]!.steps).toEqual(steps[1]!.steps)
  expect((await refresh(ledger, mine)).steps).toHaveLength(1)
})

test('newest first, other stacks apart, damaged ones are told', async () => {
  await deployed(0, 1, 2)
  await deployed(1, 2, 3, 'rolled-back')
  await create(ledger, 0, document(1, 2, 'staging'))
  expect((await readDeployments(ledger, 'production')).map(({ n, ended }) => [n, ended?.status])).toEqual([
    [1, 'rolled-back'],
    [0, 'deployed'],
  ])
  expect(await readDeployments(ledger, 'production', 1)).toHaveLength(1)
  await writeFile(join(dir, keys.deployment('production', 1)), '{"version": 2}')
  await expect(newest(ledger, 'production')).rejects.toMatchObject({ code: 'ledger_damaged', exit: 4 })
})

describe('versions that a stack runs or goes back to are needed, older ones are not:', () => {
  const needed = async () => [...(await deliveredVersions(ledger))].sort()

  test('of the newest, and of the newest that had an effect', async () => {
    expect(await needed()).toEqual([])
    await deployed(0, 1, 2)
    await deployed(1, 2, 3)
    expect(await needed()).toEqual(['lt-1 2', 'lt-1 3'])
    for (let n = 2; n < 9; n++) await deployed(n, 3, 4, 'rolled-back')
    expect(await needed()).toEqual(['lt-1 2', 'lt-1 3', 'lt-1 4'])
  })

  test('one to the same version, and one that was refused, had none', async () => {
    await deployed(0, 1, 2)
    await deployed(1, 2, 2)
    await deployed(2, 2, 3, 'failed', false)
    expect(await needed()).toEqual(['lt-1 1', 'lt-1 2', 'lt-1 3'])
  })
})
