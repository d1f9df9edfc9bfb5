import { setTimeout as sleep } from 'node:timers/promises'
import type { DeployWorld } from '../../src/fleet/deploy-world.ts'
import { create, type Full, type FullDocument, type NewStep, take } from '../../src/fleet/deployments.ts'
import { Run } from '../../src/fleet/full-run.ts'
import type { Ledger } from '../../src/io/ledger.ts'

const launch = (version: number) => ({
  release: `v${version}`,
  image: `ami-${version}`,
  template: { id: 'lt-1', name: 'web', version },
})
type FullRecord = FullDocument['full']

/** A full deployment of two instances from v1 to v2, with a migration. */
const documentOf = (more: Partial<FullRecord> = {}): FullDocument => ({
  ...{ version: 1, project: 'shop', stack: 'production', kind: 'deploy', strategy: 'full', group: 'web', region: 'us-east-1' },
  ...{ from: launch(1), to: launch(2), by: 'ann@here', at: 1 },
  full: {
    ...{ sizes: { min: 1, desired: 2, max: 2 }, protectsNew: false, suspended: [], instances: ['i-1', 'i-2'] },
    ...{ targetGroups: [], asked: true, migrate: { service: 'web', command: ['migrate'], lock: 'a' } },
    ...more,
  },
})

/** It, with steps that ann took. */
export async function begun(ledger: Ledger, steps: NewStep[], more: Partial<FullRecord> = {}): Promise<Full> {
  let at = (await create(ledger, 0, documentOf(more)))!
  for (const step of steps) at = await take(ledger, at, step, 'ann@here')
  return at
}

/** bob's. */
export const worldOf = (ledger: Ledger, more: Partial<DeployWorld> = {}): DeployWorld =>
  ({
    ...{ ledger, by: 'bob@there', leaseMs: 60_000, pollMs: 1, process: { host: 'there', pid: 1, start: '1' } },
    ...{ hasEnded: () => false, signal: new AbortController().signal, tell: () => {} },
    sleep: async (ms: number, signal: AbortSignal) => void (await sleep(ms, undefined, { signal })),
    ...more,
  }) as unknown as DeployWorld

export async function claim(at: Full, world: DeployWorld): Promise<Run> {
  const got = await Run.begin(at, world)
  if (!('run' in got)) throw new Error('it has ended')
  return got.run
}
