import { setTimeout as sleep } from 'node:timers/promises'
import { unavailable } from '../errors.ts'
import type { Manifest } from '../io/registry.ts'
import { cancellationOf } from '../jobs/askers.ts'
import {
  append,
  type ClaimEntry,
  type Claims,
  MAX_LOST_WORKERS,
  MAX_WORLD_FAILURES,
  readClaims,
  refreshClaims,
} from '../jobs/claims.ts'
import { failureOf } from '../jobs/failure.ts'
import { isAlive } from '../jobs/heartbeat.ts'
import type { ImageJob } from '../jobs/job.ts'
import type { Tools } from '../jobs/loop.ts'
import type { Failure } from '../jobs/records.ts'
import { supersededBy } from './supersede.ts'
import type { ImageWorld, Lease } from './world.ts'

export interface PublishedEntry {
  claims: Claims
  n: number
  digest: string
  sizeBytes: number
  manifest: Manifest
  /** This very build published it. */
  own: boolean
}

/** What a job finds when it looks at its key's claim log. */
export type Turn =
  | ({ kind: 'published' } & PublishedEntry)
  /** Ours to build, under claim n. */
  | { kind: 'build'; claims: Claims; n: number; slot: number }
  /** The build we waited for failed for the user's reason, or this build has failed too often. */
  | { kind: 'failed'; failure: Failure; bury: boolean }
  | { kind: 'cancelled'; failure: Failure }
  /** A newer commit of its branch was asked for before it began. */
  | { kind: 'superseded'; by: string; failure: Failure }
  /** Too many wait here, or the worker is leaving: hand the message back. */
  | { kind: 'later' }

/** Each look of a waiter is some requests, and there may be many waiters: the longer one has waited, the less often it looks. */
const LOOKS_PER_WAIT = 8
const SLOWER = 8

/** Waits until the key is published, ours to build, or settled otherwise. Calls `onWait` once per claim that it waits for. */
export async function takeTurn(
  job: ImageJob,
  lease: Lease,
  world: ImageWorld,
  tools: Tools,
  onWait: (leader: { build: string; claim: number }) => Promise<void>,
): Promise<Turn> {
  let claims = await readClaims(world.ledger, job.key)
  let waitedFor: number | undefined
  const began = performance.now()
  let seen: { n: number; alive: boolean; atMs: number } | undefined
  let slot: number | undefined
  for (;;) {
    tools.abort.throwIfAborted()
    const cancelled = await cancellationOf(world.ledger, job.build)
    if (cancelled) return { kind: 'cancelled', failure: cancelled }

    if (claims.published) {
      const settled = await usePublished(job, world, claims)
      if ('kind' in settled) return settled
      claims = settled
      continue
    }
    const adopted = waitedFor === undefined ? undefined : failureAfter(claims, waitedFor)
    if (adopted) return { kind: 'failed', failure: adopted, bury: false }

    const holder = claims.holder
    if (holder) {
      // One that was found dead stays so between two looks: to take its place takes more than one round.
      if (seen?.n !== holder.n || performance.now() - seen.atMs > Math.min(1_000, holder.leaseMs / 3)) {
        const alive = await isAlive(world.ledger, holder.owner, holder.leaseMs)
        seen = { n: holder.n, alive, atMs: performance.now() }
      }
      if (seen.alive) {
        if (tools.drain.aborted || !tools.place.wait()) return { kind: 'later' }
        if (waitedFor !== holder.n) await onWait({ build: holder.build, claim: holder.n })
        waitedFor = holder.n
        slot = undefined
        const patience = (performance.now() - began) / LOOKS_PER_WAIT
        await sleep(Math.max(world.pollMs, Math.min(patience, world.pollMs * SLOWER)), undefined, { signal: tools.abort })
        claims = await refreshClaims(world.ledger, claims)
        continue
      }
    }
    const exhausted = exhaustion(claims, job.build)
    if (exhausted) return { kind: 'failed', failure: exhausted, bury: true }

    if (slot === undefined) {
      const superseded = waitedFor === undefined ? await gaveWay(job, claims, world, tools) : undefined
      if (superseded) return { kind: 'superseded', ...superseded }
      slot = (await tools.place.slot(AbortSignal.any([tools.abort, tools.drain]))).index
      // That may have taken as long as another's build.
      if (waitedFor !== undefined) {
        claims = await refreshClaims(world.ledger, claims)
        continue
      }
    }
    if ((await world.room()) === 'later') return { kind: 'later' }
    lease.check()
    const claimed = await append(world.ledger, claims, {
      state: 'claimed',
      build: job.build,
      owner: lease.owner,
      leaseMs: world.leaseMs,
    })
    if (claimed) return { kind: 'build', claims: claimed, n: claimed.next - 1, slot }
    claims = await refreshClaims(world.ledger, claims)
  }
}

/** Only a build that never had a claim gives way: what began is finished. */
const gaveWay = async (job: ImageJob, claims: Claims, world: ImageWorld, { abort }: Tools) =>
  claims.entries.some(({ build }) => build === job.build) ? undefined : supersededBy(job, world, abort)

/** "Already done" includes the manifest in the registry; a rebuild, or a manifest that is gone, withdraws the entry. */
async function usePublished(job: ImageJob, world: ImageWorld, claims: Claims): Promise<Turn | Claims> {
  const { n, digest, sizeBytes, build } = claims.published!
  const withdraw = async (reason: 'rebuild' | 'missing') =>
    (await append(world.ledger, claims, { state: 'withdrawn', build: job.build, digest, reason })) ??
    refreshClaims(world.ledger, claims)
  const askedBefore = claims.entries.some(
    (entry: ClaimEntry) => entry.build === job.build && entry.state === 'withdrawn' && entry.reason === 'rebuild',
  )
  if (job.rebuild && !askedBefore) return withdraw('rebuild')
  const manifest = await world.registry.manifest({ ...world.target(job.image), digest })
  if (!manifest) return withdraw('missing')
  return { kind: 'published', claims, n, digest, sizeBytes, manifest, own: build === job.build }
}

/** The user's failure that followed the claim we waited for: the same inputs would fail the same way. */
function failureAfter(claims: Claims, n: number): Failure | undefined {
  const entry = claims.entries[n + 1]
  return entry?.state === 'failed' && entry.cause === 'user' && claims.next === n + 2 ? entry.failure : undefined
}

function exhaustion(claims: Claims, build: string): Failure | undefined {
  const last = claims.entries.findLast((entry) => entry.state === 'failed' && entry.build === build)
  if (claims.worldFailures(build) >= MAX_WORLD_FAILURES && last?.state === 'failed' && last.failure) return last.failure
  if (claims.lostWorkers(build) < MAX_LOST_WORKERS) return undefined
  return failureOf(
    unavailable('workers_lost', `${MAX_LOST_WORKERS} workers were lost while they built this`, {
      next: `look at the workers' logs, then: bake retry ${build}`,
    }),
  )
}
