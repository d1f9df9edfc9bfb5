import { z } from 'zod'
import type { Ledger } from '../io/ledger.ts'
import { buildIdTime, keys } from '../names.ts'
import { type BuildRecord, ENDED, type Failure, readBuild } from './records.ts'

const cancelSchema = z.object({
  version: z.literal(1),
  at: z.number(),
  /** Whoever asked for it: `user@machine`. Cancellations of older versions don't say. */
  by: z.string().optional(),
  /** The build that was cancelled with --force, and this one with it. */
  forcedBy: z.string().optional(),
})
type Cancellation = Omit<z.infer<typeof cancelSchema>, 'version' | 'at'>

/** As long as the queue keeps a message (docs/design.md §6) and a day for clocks and slow builds: whoever asked before that waits for nothing. */
const ASKED_WITHIN_MS = 5 * 24 * 3600 * 1000
const READ_AT_ONCE = 64

const signed = (document: object) => ({ version: 1, nonce: crypto.randomUUID(), at: Date.now(), ...document })

/** Makes `build` known as one that asked for `key`: as long as it hasn't ended, nobody else's cancellation stops the build of that key. */
export async function noteAsker(ledger: Ledger, { key, build }: { key: string; build: string }): Promise<void> {
  await ledger.create(keys.asker(key, build), signed({ build }))
}

/** Builds other than `except` that asked for `key` and have neither ended nor been cancelled, newest first. */
export async function liveAskers(ledger: Ledger, key: string, except: string): Promise<string[]> {
  const prefix = keys.askers(key)
  const since = Date.now() - ASKED_WITHIN_MS
  const builds = (await ledger.list(prefix)).map((name) => name.slice(prefix.length))
  const asked = builds.filter((build) => build !== except && buildIdTime(build) > since)
  const live: string[] = []
  for (let at = 0; at < asked.length; at += READ_AT_ONCE) {
    const some = asked.slice(at, at + READ_AT_ONCE)
    const waits = await Promise.all(some.map((build) => isWaitedFor(ledger, build)))
    live.push(...some.filter((_, n) => waits[n]))
  }
  return live
}

/** A record that isn't there yet, or is damaged, is one of a job that will be opened. */
async function isWaitedFor(ledger: Ledger, build: string): Promise<boolean> {
  const [cancelled, record] = await Promise.all([ledger.get(keys.cancel(build)), readBuild(ledger, build).catch(() => undefined)])
  return cancelled === undefined && !(record && ENDED.has(record.status))
}

/** Lets go of a build: whoever has its message, or builds it, looks at this. The first one's word stays. */
export async function requestCancel(ledger: Ledger, build: string, cancellation: Cancellation): Promise<void> {
  await ledger.create(keys.cancel(build), signed(cancellation))
}

/** Whether `build` was let go of, as what its record then says. */
export async function cancellationOf(ledger: Ledger, build: string): Promise<Failure | undefined> {
  const document = await ledger.get(keys.cancel(build))
  if (document === undefined) return undefined
  const { by, forcedBy } = cancelSchema.safeParse(document).data ?? {}
  const who = by === undefined ? '' : ` by ${by}`
  const why =
    forcedBy === undefined || forcedBy === build
      ? ''
      : `, with everything that asked for the same inputs (bake cancel ${forcedBy} --force)`
  return {
    kind: 'user',
    code: 'cancelled',
    message: `build ${build} was cancelled${who}${why}`,
    exit: 3,
    next: `bake retry ${build}    asks again`,
  }
}

/**
 * Ends the record of a build whose cancellation no worker has acted on in time: nobody has its message, or its worker is dead or paused.
 * Whoever gets the message finds the end and drops it.
 */
export async function endCancelled(ledger: Ledger, build: string): Promise<BuildRecord | undefined> {
  const [record, failure] = await Promise.all([readBuild(ledger, build), cancellationOf(ledger, build)])
  if (!record || !failure || ENDED.has(record.status)) return record
  const { leader: _, ...rest } = record
  const ended: BuildRecord = { ...rest, status: 'cancelled', failure, endedAt: Date.now() }
  await ledger.put(keys.build(build), ended)
  return ended
}
