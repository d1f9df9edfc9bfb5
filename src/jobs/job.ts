import { z } from 'zod'
import { refused } from '../errors.ts'
import {
  BUILD_ID_PATTERN,
  COMMIT_PATTERN,
  DIGEST_PATTERN,
  isBranchName,
  KEY_PATTERN,
  NAME_PATTERN,
  releaseNameProblem,
} from '../names.ts'

/** SQS takes 256 KiB to 1 MiB depending on the queue's age and the emulator; ours never come near. */
const MAX_JOB_BYTES = 200 * 1024

/** A moving reference and what it stood for when the commit was first asked for. `local`: only in this machine's engine; digest is the engine's image id. */
export const pinSchema = z.strictObject({
  /** As written in the Dockerfile after argument expansion. */
  reference: z.string().min(1).max(1000),
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  local: z.literal(true).optional(),
})
export type Pin = z.infer<typeof pinSchema>

/** What every job says: which commit of which project it is about. */
const subject = {
  version: z.literal(1),
  /** The build's id: its record, log and cancellation are found by it. */
  build: z.string().regex(BUILD_ID_PATTERN),
  project: z.string().regex(NAME_PATTERN).max(128),
  /** Where the commit comes from; a worker takes only what its own configuration allows. */
  repository: z.string().min(1).max(2048),
  /** bake.yaml's path from the repository's root. */
  config: z.string().min(1).max(4096),
  commit: z.string().regex(COMMIT_PATTERN),
}

export const imageJobSchema = z.strictObject({
  ...subject,
  kind: z.literal('image'),
  image: z.string().regex(NAME_PATTERN).max(128),
  key: z.string().regex(KEY_PATTERN),
  pins: z.array(pinSchema).max(200),
  /** The branch that was asked for, whose tag moves; none for a tag or a bare SHA. */
  branch: z.string().max(250).refine(isBranchName, 'no branch name').optional(),
  priority: z.enum(['normal', 'high']),
  /** Append `withdrawn` first and build anew. */
  rebuild: z.boolean(),
})

export type ImageJob = z.infer<typeof imageJobSchema>

/** An image by digest, as the asker found it. */
const pinnedImage = z.strictObject({
  /** A name of bake.yaml's images, or for a stand-in the reference that it names. */
  image: z.string().min(1).max(1000),
  /** `host[:port]/path` */
  repository: z.string().min(1).max(512),
  digest: z.string().regex(DIGEST_PATTERN),
})

/** One machine image of a release, with everything that decides it: nothing is waited for. */
const machineJobSchema = z.strictObject({
  ...subject,
  kind: z.literal('machine'),
  release: z.string().refine((name) => releaseNameProblem(name) === undefined, 'no release name'),
  /** 0 is bake.yaml's `machine` itself, n the nth of its `also`. */
  variant: z.number().int().min(0).max(63),
  /** The inputs hash that a worker must come to as well. */
  inputs: z.string().regex(KEY_PATTERN),
  /** The AMI that bake.yaml's `machine.base` stands for. */
  base: z.string().regex(/^ami-[0-9a-f]{8,17}$/),
  images: z.array(pinnedImage).max(200),
  standIns: z.array(pinnedImage).max(200),
  verify: z.boolean(),
  /** --rebake: what was published before this entry of the claim log doesn't count. */
  since: z.number().int().min(0).optional(),
  makeDefault: z.boolean(),
  /** --baker and --explain: they decide nothing of what is baked. */
  baker: z.enum(['packer', 'direct']).optional(),
  explain: z.boolean().optional(),
  /** Whoever asked: `user@machine`. */
  by: z.string().min(1).max(300),
})

export type MachineJob = z.infer<typeof machineJobSchema>
/** A body's `kind` tells them apart. */
export type Job = ImageJob | MachineJob

const KINDS = { image: imageJobSchema, machine: machineJobSchema }

export type ParsedBody =
  | { status: 'ok'; job: Job }
  /** A version of ours that this worker is too old for: left alone. */
  | { status: 'unknown-version'; version: number }
  /** A kind that came after this worker, which is left alone as well. */
  | { status: 'unknown-kind'; kind: string }
  | { status: 'invalid'; reason: string }

/** What a kind of job may be called: any other word is nobody's job. */
const KIND_PATTERN = /^[a-z][a-z0-9-]{0,31}$/

/** The only parser of queue bodies. Never throws. */
export function parseBody(body: string): ParsedBody {
  if (Buffer.byteLength(body) > MAX_JOB_BYTES) return { status: 'invalid', reason: `larger than ${MAX_JOB_BYTES} bytes` }
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch {
    return { status: 'invalid', reason: 'not JSON' }
  }
  const { version, kind } = typeof value === 'object' && value !== null ? (value as { version?: unknown; kind?: unknown }) : {}
  if (typeof version === 'number' && Number.isInteger(version) && version > 1) return { status: 'unknown-version', version }
  const known = kind === 'machine' ? kind : 'image'
  if (version === 1 && typeof kind === 'string' && kind !== known && KIND_PATTERN.test(kind))
    return { status: 'unknown-kind', kind }
  const parsed = KINDS[known].safeParse(value)
  if (parsed.success) return { status: 'ok', job: parsed.data }
  const issue = parsed.error.issues[0]
  return { status: 'invalid', reason: `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}` }
}

/** The only writer of queue bodies; refuses what a worker would refuse. */
export function formatBody(job: Job): string {
  const body = JSON.stringify(job)
  const parsed = parseBody(body)
  if (parsed.status !== 'ok')
    throw refused('job_invalid', `this job can't be queued: ${'reason' in parsed ? parsed.reason : 'unknown version or kind'}`)
  return body
}
