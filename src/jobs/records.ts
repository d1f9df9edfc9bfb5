import { z } from 'zod'
import { unavailable } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { BUILD_ID_PATTERN, COMMIT_PATTERN, DIGEST_PATTERN, KEY_PATTERN, keys } from '../names.ts'
import { imageJobSchema, pinSchema } from './job.ts'

const digest = z.string().regex(DIGEST_PATTERN)
const key = z.string().regex(KEY_PATTERN)

export const failureSchema = z.object({
  kind: z.enum(['user', 'world', 'ours']),
  code: z.string(),
  message: z.string(),
  next: z.string().optional(),
  exit: z.number(),
})
export type Failure = z.infer<typeof failureSchema>

const bakeJobSchema = z.object({
  release: z.string(),
  variant: z.number(),
  by: z.string(),
  /** Runs that have begun and have told of no end, as claims and `bakes/<id>` name them. */
  runs: z.array(z.string()),
  /** Set when it has ended well. */
  did: z.enum(['found', 'baked', 'proven']).optional(),
})

/** `builds/<id>`: one asker's build of one image, or bake of one machine image, from queued to its end. Written by the asker, then by the one worker that holds its message. */
export const buildRecordSchema = z.object({
  version: z.literal(1),
  build: z.string().regex(BUILD_ID_PATTERN),
  project: z.string(),
  repository: z.string(),
  config: z.string(),
  commit: z.string().regex(COMMIT_PATTERN),
  image: z.string(),
  key,
  branch: z.string().optional(),
  priority: z.enum(['normal', 'high']),
  rebuild: z.boolean(),
  status: z.enum(['queued', 'waiting', 'running', 'built', 'tagged', 'failed', 'cancelled', 'superseded']),
  askedAt: z.number(),
  startedAt: z.number().optional(),
  endedAt: z.number().optional(),
  worker: z.string().optional(),
  /** Number of the claim log entry under which it builds: its log is logs/<build>/<n>. */
  claim: z.number().optional(),
  /** The build whose claim it waits for; its log is the one to follow. */
  leader: z.object({ build: z.string(), claim: z.number() }).optional(),
  reference: z.string().optional(),
  digest: digest.optional(),
  tag: z.string().optional(),
  sizeBytes: z.number().optional(),
  pushedBytes: z.number().optional(),
  steps: z.object({ total: z.number(), cached: z.number() }).optional(),
  failure: failureSchema.optional(),
  /** The last failure of the world that it met outside of a claim, whose log can't tell it: it is tried again then. */
  retry: z
    .object({ t: z.number(), code: z.string(), message: z.string(), attempt: z.number(), of: z.number(), inSeconds: z.number() })
    .optional(),
  /** The build of a newer commit of the branch that took this one's place before it began. */
  supersededBy: z.string().optional(),
  /** Number of the queue that its message is in. */
  shard: z.number().optional(),
  /** What made the build fast, warmest first (docs/builds-and-workers.md). */
  warmth: z.enum(['built-here', 'warmed', 'registry', 'cold']).optional(),
  /** Of a bake: `image` is then what its machine image is called in stories, `key` the inputs hash, and `claim` the number of its run. */
  machine: bakeJobSchema.optional(),
})
export type BuildRecord = z.infer<typeof buildRecordSchema>

export const ENDED: ReadonlySet<BuildRecord['status']> = new Set(['built', 'tagged', 'failed', 'cancelled', 'superseded'])

/** `commits/<sha>/<image>`: what a commit was when it was first asked for. */
export const commitDocumentSchema = z.object({
  version: z.literal(1),
  keySchema: z.number(),
  /** `host/path` that the key was made for. */
  target: z.string(),
  key,
  pins: z.array(pinSchema),
})
export type CommitDocument = z.infer<typeof commitDocumentSchema>

/** `images/<key>`: a copy of the newest `published` entry, for fast reading. `rebuilt`: a rebuild or withdrawal for cause `rebuild` precedes it. */
export const imageDocumentSchema = z.object({
  version: z.literal(1),
  n: z.number(),
  digest,
  /** Set when a rebuild precedes this entry: commit tags then end in `-r<n>`. */
  rebuilt: z.number().optional(),
  sizeBytes: z.number().optional(),
})
export type ImageDocument = z.infer<typeof imageDocumentSchema>

/** `latest/<image>`: the newest publication of an image, for workers that warm their caches with it. Put by whoever published; the last one wins. */
export const latestDocumentSchema = z.object({
  version: z.literal(1),
  build: z.string().regex(BUILD_ID_PATTERN),
  at: z.number(),
  digest,
  /** The job that was built, as it was on the queue: what can be made again. */
  job: imageJobSchema,
})
export type LatestDocument = z.infer<typeof latestDocumentSchema>

/** `workers/<name>`: what a member of the fleet tells of itself, every few seconds and whenever it changes. Its age is its owner's beat's. */
export const workerDocumentSchema = z.object({
  version: z.literal(1),
  name: z.string(),
  /** The incarnation whose beat tells whether it lives. */
  owner: z.string(),
  bake: z.string(),
  platform: z.string(),
  state: z.enum(['warming', 'ready', 'draining', 'ended']),
  slots: z.number(),
  leaseMs: z.number(),
  startedAt: z.number(),
  at: z.number(),
  /** Its preferred shards, most preferred first. */
  shards: z.array(z.number()),
  running: z.array(z.object({ build: z.string(), image: z.string(), since: z.number(), phase: z.string().optional() })),
  /** Images that its caches are warm for: when, and by what. Newest first, a bounded number. */
  warm: z.array(z.object({ image: z.string(), at: z.number(), by: z.enum(['built-here', 'warmed']) })),
  /** It takes machine jobs. */
  bakes: z.boolean().optional(),
  /** EC2's instance id, where it runs on one. */
  instance: z.string().optional(),
  disk: z.object({ freeBytes: z.number(), totalBytes: z.number(), cacheBytes: z.number().optional() }).optional(),
  counts: z.object({ built: z.number(), tagged: z.number(), failed: z.number() }),
})
export type WorkerDocument = z.infer<typeof workerDocumentSchema>

/** Reads and parses one document; undefined when there is none. Throws `ledger_damaged` (exit 4) when it isn't what it should be. */
export async function read<T>(ledger: Ledger, at: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const value = await ledger.get(at)
  if (value === undefined) return undefined
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw unavailable('ledger_damaged', `ledger document ${at} is damaged: ${issue?.path.join('.')} ${issue?.message}`, {
    next: `move it away (it is kept as evidence) and run the command again`,
    ids: { document: at },
  })
}

export const readBuild = (ledger: Ledger, id: string) => read(ledger, keys.build(id), buildRecordSchema)
export const writeBuild = (ledger: Ledger, record: BuildRecord) => ledger.put(keys.build(record.build), record)
