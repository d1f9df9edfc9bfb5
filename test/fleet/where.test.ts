import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { create, type DeploymentDocument, type Ended, take } from '../../src/fleet/deployments.ts'
import { appendSwap } from '../../src/fleet/swap-record.ts'
import { whereRuns } from '../../src/fleet/where.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'

const launch = (version: number) => ({
  release: `v${version}`,
  image: `ami-${version}`,
  template: { id: 'lt-1', name: 'web', version },
})
const COMMIT = '2'.repeat(40)

test('a release runs where it was deployed to last, or swapped; where a deployment stands half-way, perhaps', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-where-'))
  const ledger = new DirectoryLedger(dir)
  const deploy = async (stack: string, n: number, from: number, to: number, status?: Ended['status']) => {
    const document: DeploymentDocument = {
      ...{ version: 1, project: 'shop', stack, kind: 'deploy', strategy: 'rolling', group: 'web', region: 'us-east-1' },
      ...{ from: launch(from), to: launch(to), by: 'ann@here', at: 1 },
      rolling: { minHealthy: 100, maxHealthy: 110, checkpoints: [], alarms: [], skipMatching: true },
    }
    const made = (await create(ledger, n, document))!
    if (status) await take(ledger, made, { step: 'ended', status }, 'ann@here')
  }
  await deploy('here', 0, 1, 2, 'deployed')
  await deploy('back', 0, 2, 3, 'rolled-back')
  await deploy('half', 0, 2, 3, 'failed')
  await deploy('under-way', 0, 1, 2)
  await deploy('before', 0, 1, 2, 'deployed')
  await deploy('before', 1, 2, 3, 'deployed')
  const swapped = {
    ...{ state: 'ended' as const, status: 'swapped' as const, commit: COMMIT, inputs: [] },
    images: { web: `sha256:${'0'.repeat(64)}` },
  }
  await appendSwap(ledger, { stack: 'dev', n: 0 }, swapped, 'bob@there')
  const stacks = ['here', 'back', 'half', 'under-way', 'before', 'dev', 'never']
  const found = await whereRuns({ name: 'v2', commit: COMMIT }, stacks, ledger)
  expect(found.map(({ stack, how, by }) => [stack, how, by])).toEqual([
    ['here', 'deployed', 'ann@here'],
    ['back', 'deployed', 'ann@here'],
    ['half', 'maybe', 'ann@here'],
    ['under-way', 'maybe', 'ann@here'],
    ['dev', 'swapped', 'bob@there'],
  ])
  await rm(dir, { recursive: true })
})
