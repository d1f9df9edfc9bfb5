import { setTimeout as sleep } from 'node:timers/promises'
import { BakeError } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { append, type Claims, readClaims, refreshClaims } from '../jobs/claims.ts'
import { isAlive } from '../jobs/heartbeat.ts'
import type { Failure } from '../jobs/records.ts'
import { proofHash } from './inputs.ts'
import type { Baked, UnrenderedPlan } from './machine.ts'
import { bakedOf, logOfBake, type MachineDocument, readBake, readMachine } from './records.ts'
import type { ProcessId } from './work-dir.ts'

/** A machine image that was published, as it is on this machine. */
export interface Machine {
  document: MachineDocument
  baked: Baked
  /** Claim under which it was made. */
  n: number
}

export interface TurnAsk {
  /** Whether it must be proven. */
  verify: boolean
  /** What was published before this was asked for doesn't count. */
  rebake: boolean
  /** When it was asked for, as the number of the claim log's next entry then. Now unless told. */
  since?: number
}

/** What looking at claims needs. */
export interface TurnWorld {
  ledger: Ledger
  stateDir: string
  /** Whether a machine image is still there. */
  has(baked: Baked): Promise<boolean>
  /** Whether a process of this machine has certainly ended. */
  ended(process: ProcessId): boolean
}

/** What the claim log says now. */
export type Look =
  | { kind: 'found'; machine: Machine }
  /** Somebody alive bakes it. */
  | { kind: 'held'; n: number; build: string; by: string; log: string; claims: Claims }
  /** Nobody does. `machine`: it is there, only the proof is missing. `withdraw`: a publication that doesn't count any more. */
  | { kind: 'free'; claims: Claims; machine?: Machine; withdraw?: { digest: string; reason: 'rebuild' | 'missing' } }

/** What is there for these inputs. `since`: number of the first entry that came after `--rebake` was asked for. Writes nothing. */
export async function look(
  plan: Pick<UnrenderedPlan, 'inputs' | 'services' | 'standIns'>,
  claims: Claims,
  ask: TurnAsk & { since: number },
  world: TurnWorld,
): Promise<Look> {
  const { published, holder } = claims
  const machine = published && (await standing(plan.inputs, published, world))
  const outdated = ask.rebake && published !== undefined && published.n - 1 < ask.since
  if (machine && !outdated && (!ask.verify || machine.document.proof?.asked === proofHash(plan)))
    return { kind: 'found', machine }
  if (holder) {
    const record = await readBake(world.ledger, holder.build).catch(() => undefined)
    const dead = record !== undefined && world.ended(record.process)
    if (!dead && (await isAlive(world.ledger, holder.owner, holder.leaseMs)))
      return {
        ...{ kind: 'held', n: holder.n, build: holder.build, by: record?.by ?? holder.owner, claims },
        log: logOfBake({ ...record, build: holder.build, claim: holder.n }),
      }
  }
  if (published === undefined || (machine && !outdated)) return { kind: 'free', claims, ...(machine && { machine }) }
  return { kind: 'free', claims, withdraw: { digest: published.digest, reason: machine ? 'rebuild' : 'missing' } }
}

/** A publication whose document is there, and its image too. */
async function standing(
  inputs: string,
  { n, digest }: { n: number; digest: string },
  world: TurnWorld,
): Promise<Machine | undefined> {
  const document = await readMachine(world.ledger, inputs, n - 1, digest)
  if (!document) return undefined
  const baked = bakedOf(document, world.stateDir)
  return (await world.has(baked)) ? { document, baked, n: n - 1 } : undefined
}

/** As claims and beats name this run. */
export interface Owner {
  owner: string
  leaseMs: number
  /** Throws lease_lost. */
  check(): void
}

export type Turn =
  | { kind: 'found'; machine: Machine }
  /** Ours under claim n: to bake or, when there is a machine, to prove. */
  | { kind: 'ours'; claims: Claims; n: number; machine?: Machine }

export interface TurnOptions extends TurnWorld {
  build: string
  owner: Owner
  pollMs: number
  signal: AbortSignal
  /** Told once for each claim of somebody else's that is waited for; disposed of when it has ended. */
  onWait(held: Extract<Look, { kind: 'held' }>): AsyncDisposable
}

/** Looking whether somebody is alive costs some requests. */
const SLOWEST_LOOK_MS = 1_000

/**
 * Waits until the inputs are published and still there, or ours to bake. Throws what the bake that was waited for failed with, when that is the user's
 * affair: the same inputs would fail the same way.
 */
export async function takeTurn(plan: UnrenderedPlan, ask: TurnAsk, options: TurnOptions): Promise<Turn> {
  const { ledger, owner, build, signal } = options
  let claims = await readClaims(ledger, plan.inputs)
  const { since = claims.next } = ask
  for (;;) {
    signal.throwIfAborted()
    const seen = await look(plan, claims, { ...ask, since }, options)
    if (seen.kind === 'found') return seen
    if (seen.kind === 'held') {
      claims = await waitForClaim(seen, options)
      const failure = failureAfter(claims, seen.n)
      if (failure) throw adopted(failure, seen)
      continue
    }
    owner.check()
    const entry = seen.withdraw
      ? ({ state: 'withdrawn', build, ...seen.withdraw } as const)
      : ({ state: 'claimed', build, owner: owner.owner, leaseMs: owner.leaseMs } as const)
    const longer = await append(ledger, claims, entry)
    if (longer && entry.state === 'claimed')
      return { kind: 'ours', claims: longer, n: longer.next - 1, ...(seen.machine && { machine: seen.machine }) }
    claims = longer ?? (await refreshClaims(ledger, claims))
  }
}

/** Until the next entry, or the holder's death. */
async function waitForClaim(held: Extract<Look, { kind: 'held' }>, options: TurnOptions): Promise<Claims> {
  await using _told = options.onWait(held)
  for (let pauseMs = options.pollMs; ; pauseMs = Math.min(pauseMs * 2, SLOWEST_LOOK_MS)) {
    await sleep(pauseMs, undefined, { signal: options.signal })
    const claims = await refreshClaims(options.ledger, held.claims)
    if (claims.next > held.n + 1) return claims
    const { holder } = claims
    if (!holder) return claims
    const record = await readBake(options.ledger, holder.build).catch(() => undefined)
    if (record !== undefined && options.ended(record.process)) return claims
    if (!(await isAlive(options.ledger, holder.owner, holder.leaseMs))) return claims
  }
}

function failureAfter(claims: Claims, n: number): Failure | undefined {
  const entry = claims.entries[n + 1]
  return entry?.state === 'failed' && entry.cause === 'user' && claims.next === n + 2 ? entry.failure : undefined
}

const adopted = ({ kind, exit, code, message, next }: Failure, { build, by }: { build: string; by: string }): BakeError =>
  new BakeError(kind, exit as BakeError['exit'], code, `the bake that was waited for (${by}) failed: ${message}`, {
    ids: { build },
    next: next ?? `bake logs ${build}`,
  })
