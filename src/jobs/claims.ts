import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { BakeError, unavailable } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { DIGEST_PATTERN, keys } from '../names.ts'
import { failureSchema } from './records.ts'

const common = { version: z.literal(1), nonce: z.string(), build: z.string(), at: z.number() }
const digest = z.string().regex(DIGEST_PATTERN)

/** One entry of `claims/<image key>/<n>`: created exclusively, never changed, deleted or expired (docs/design.md §6). */
const claimEntrySchema = z.discriminatedUnion('state', [
  z.object({ ...common, state: z.literal('claimed'), owner: z.string(), leaseMs: z.number() }),
  z.object({ ...common, state: z.literal('published'), owner: z.string(), digest, sizeBytes: z.number() }),
  z.object({
    ...common,
    state: z.literal('failed'),
    owner: z.string(),
    cause: z.enum(['user', 'world', 'ours', 'cancelled', 'released']),
    failure: failureSchema.optional(),
  }),
  z.object({ ...common, state: z.literal('withdrawn'), digest, reason: z.enum(['rebuild', 'missing']) }),
])
export type ClaimEntry = z.infer<typeof claimEntrySchema>
type Claimed = Extract<ClaimEntry, { state: 'claimed' }>
type Published = Extract<ClaimEntry, { state: 'published' }>
/** What a caller says of an entry; version, nonce and time are added by `append`. */
export type NewEntry = ClaimEntry extends infer E ? (E extends ClaimEntry ? Omit<E, 'version' | 'nonce' | 'at'> : never) : never

/** Failures of the world that one build may meet before it is given up. */
export const MAX_WORLD_FAILURES = 3
/** Workers that one build may lose before it is given up: it may be what kills them. */
export const MAX_LOST_WORKERS = 5

/** The claim log of one image key, as read. Entry `n` is `entries[n]`. */
export class Claims {
  readonly key: string
  readonly entries: readonly ClaimEntry[]

  constructor(key: string, entries: readonly ClaimEntry[]) {
    this.key = key
    this.entries = entries
  }

  /** Number that the next entry will have. */
  get next(): number {
    return this.entries.length
  }

  get head(): ClaimEntry | undefined {
    return this.entries.at(-1)
  }

  /** The claim that holds the key now, if one does. */
  get holder(): (Claimed & { n: number }) | undefined {
    return this.head?.state === 'claimed' ? { ...this.head, n: this.next - 1 } : undefined
  }

  /** The newest `published` entry with nothing withdrawn after it. */
  get published(): (Published & { n: number }) | undefined {
    for (let n = this.entries.length - 1; n >= 0; n--) {
      const entry = this.entries[n]!
      if (entry.state === 'withdrawn') return undefined
      if (entry.state === 'published') return { ...entry, n }
    }
    return undefined
  }

  /** Whether a rebuild precedes entry `n`: its commit tags then end in `-r<n>`, because the plain one may be taken. */
  rebuiltBefore(n: number): boolean {
    return this.entries.slice(0, n).some((entry) => entry.state === 'withdrawn' && entry.reason === 'rebuild')
  }

  worldFailures(build: string): number {
    return this.entries.filter((entry) => entry.state === 'failed' && entry.cause === 'world' && entry.build === build).length
  }

  /** Claims for `build` whose worker was given up: another claim follows at once. */
  lostWorkers(build: string): number {
    return this.entries.filter(
      (entry, n) => entry.state === 'claimed' && entry.build === build && this.entries[n + 1]?.state === 'claimed',
    ).length
  }
}

/** Not "move it away": without one entry the log would say something else, and somebody else would publish. */
const damaged = (at: string, key: string, why: string, cause?: unknown) =>
  unavailable('ledger_damaged', `claim log entry ${at} is damaged: ${why}`, {
    ids: { key, document: at },
    next: "the claim log decides what is published, so restore that entry from a backup; without one, change a file of the image's context: another image key has a log of its own",
    cause,
  })

/** Entry `n`; undefined when there is none. */
async function readEntry(ledger: Ledger, key: string, n: number): Promise<ClaimEntry | undefined> {
  const at = keys.claim(key, n)
  const value = await ledger.get(at).catch((error: unknown) => {
    throw error instanceof BakeError && error.code === 'ledger_damaged' ? damaged(at, key, 'it is no JSON object', error) : error
  })
  if (value === undefined) return undefined
  const parsed = claimEntrySchema.safeParse(value)
  if (parsed.success) return parsed.data
  throw damaged(at, key, 'it is not what bake writes')
}

/** Reads the whole log of a key. Throws `ledger_damaged` when an entry is unreadable or missing in between. */
export async function readClaims(ledger: Ledger, key: string): Promise<Claims> {
  const names = await ledger.list(keys.claims(key))
  const entries = await Promise.all(
    names.map(async (name, n) => {
      const entry = await readEntry(ledger, key, n)
      if (entry === undefined) throw damaged(keys.claim(key, n), key, `it is missing, and there is ${name}`)
      return entry
    }),
  )
  return new Claims(key, entries)
}

/** Reads on from what is known: one read when nothing is new. */
export async function refreshClaims(ledger: Ledger, claims: Claims): Promise<Claims> {
  const entries = [...claims.entries]
  for (;;) {
    const entry = await readEntry(ledger, claims.key, entries.length)
    if (entry === undefined) return entries.length === claims.entries.length ? claims : new Claims(claims.key, entries)
    entries.push(entry)
  }
}

/** Creates the next entry. The longer log on success, undefined when somebody else's entry has that number: the caller lost. */
export async function append(ledger: Ledger, claims: Claims, entry: NewEntry): Promise<Claims | undefined> {
  const full = { ...entry, version: 1, nonce: randomUUID(), at: Date.now() } as ClaimEntry
  const won = await ledger.create(keys.claim(claims.key, claims.next), full)
  return won ? new Claims(claims.key, [...claims.entries, full]) : undefined
}
