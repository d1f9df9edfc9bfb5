import { join } from 'node:path'
import { z } from 'zod'
import type { Ledger } from '../io/ledger.ts'
import { failureSchema, read } from '../jobs/records.ts'
import { BUILD_ID_PATTERN, COMMIT_PATTERN, DIGEST_PATTERN, KEY_PATTERN, keys, sha256 } from '../names.ts'
import { canonical } from './inputs.ts'
import type { Baked } from './machine.ts'
import { processSchema } from './work-dir.ts'

const digest = z.string().regex(DIGEST_PATTERN)
const inputs = z.string().regex(KEY_PATTERN)
const build = z.string().regex(BUILD_ID_PATTERN)
const commit = z.string().regex(COMMIT_PATTERN)
const reference = z.object({ image: z.string(), repository: z.string(), digest, sizeBytes: z.number().optional() })

/** `releases/<name>`: what a release is, created once. Its images are these for ever, whatever is built of its commit later. */
export const releaseSchema = z.object({
  version: z.literal(1),
  name: z.string(),
  project: z.string(),
  commit,
  createdAt: z.number(),
  /** Images of the services and of the stand-ins that its bake.yaml names. */
  images: z.array(reference),
  standIns: z.array(reference),
})
export type ReleaseDocument = z.infer<typeof releaseSchema>

const base = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('disk'), path: z.string(), sha256: z.string(), firmware: z.enum(['bios', 'uefi']) }),
  z.object({ kind: z.literal('ami'), region: z.string(), id: z.string(), name: z.string(), createdAt: z.number() }),
])

const ami = z.object({ region: z.string(), id: z.string(), snapshots: z.array(z.string()) })
const image = z.discriminatedUnion('kind', [
  /** `file`: from the state directory, so that a project can be moved. */
  z.object({ kind: z.literal('disk'), file: z.string(), format: z.enum(['qcow2', 'raw']), sizeBytes: z.number() }),
  z.object({ kind: z.literal('ami'), ...ami.shape, copies: z.array(ami).optional() }),
])

const proofSchema = z.object({
  at: z.number(),
  /** Hash of what the proof was asked to show: another one is asked for when `proof:` changes. */
  asked: z.string(),
  accelerator: z.enum(['kvm', 'tcg']).optional(),
  standIns: z.array(z.string()),
  boots: z.array(
    z.object({
      network: z.enum(['none', 'dead', 'aws']),
      seconds: z.number(),
      services: z.array(
        z.object({ service: z.string(), level: z.enum(['healthy', 'started']), seconds: z.number(), digest: z.string() }),
      ),
    }),
  ),
})

/** `machines/<inputs>/<n>`: what claim n of that hash made. It counts once entry n + 1 is `published` with this document's hash. */
const machineSchema = z.object({
  version: z.literal(1),
  build,
  inputs,
  project: z.string(),
  /** The release that it was baked for first; others with the same inputs share it. */
  release: z.string(),
  commit,
  architecture: z.enum(['amd64', 'arm64']),
  baker: z.string(),
  base,
  services: z.array(z.object({ service: z.string(), image: z.string(), repository: z.string(), digest })),
  image,
  /** Absent after --no-verify. */
  proof: proofSchema.optional(),
  phases: z.array(z.object({ phase: z.string(), seconds: z.number() })),
  startedAt: z.number(),
  bakedAt: z.number(),
})
export type MachineDocument = z.infer<typeof machineSchema>

/** `bakes/<id>`: one run of `bake ami` that claimed something. */
const bakeSchema = z.object({
  version: z.literal(1),
  build,
  project: z.string(),
  release: z.string(),
  commit,
  inputs,
  status: z.enum(['running', 'baked', 'failed', 'cancelled', 'lost']),
  /** As its claims and beats name it, and the claim under which it bakes: its log is logs/<build>/<claim>. */
  owner: z.string(),
  leaseMs: z.number(),
  claim: z.number(),
  /** Its log, when that is the log of the job that it was begun for. */
  log: z.string().optional(),
  /** `user@machine`, and its process there. */
  by: z.string(),
  process: processSchema,
  startedAt: z.number(),
  endedAt: z.number().optional(),
  failure: failureSchema.optional(),
})
export type BakeRecord = z.infer<typeof bakeSchema>

/** A version of a launch template. */
const launchSchema = z.object({ name: z.string(), version: z.number() })
export type LaunchVersion = z.infer<typeof launchSchema>

/** `release-machines/<name>/<inputs>`: a hash under which a release was baked, or found, as what, and how instances of it are launched. */
export const releaseMachineSchema = z.object({
  version: z.literal(1),
  release: z.string(),
  inputs,
  /** AMI id, or the disk's path as it was. */
  image: z.string(),
  launch: launchSchema.optional(),
  at: z.number(),
})
export type ReleaseMachine = z.infer<typeof releaseMachineSchema>

export const readRelease = (ledger: Ledger, name: string) => read(ledger, keys.release(name), releaseSchema)
export const readBake = (ledger: Ledger, id: string) => read(ledger, keys.bake(id), bakeSchema)
/** Where the story of a bake is. */
export const logOfBake = ({ build, claim, log }: Pick<BakeRecord, 'build' | 'claim' | 'log'>): string =>
  log ?? keys.log(build, claim)
export const writeBake = (ledger: Ledger, record: BakeRecord) => ledger.put(keys.bake(record.build), record)

/** A document's hash, as the claim log publishes it. */
export const documentDigest = (document: object): string => `sha256:${sha256(canonical(document))}`

/** What claim `n` made; undefined when that isn't the document that was published as `published`. */
export async function readMachine(
  ledger: Ledger,
  hash: string,
  n: number,
  published: string,
): Promise<MachineDocument | undefined> {
  const value = await ledger.get(keys.machine(hash, n)).catch(() => undefined)
  const parsed = machineSchema.safeParse(value)
  return parsed.success && documentDigest(value as object) === published ? parsed.data : undefined
}

/** The image that a document names, as it is on this machine. */
export const bakedOf = ({ image: it }: MachineDocument, stateDir: string): Baked =>
  it.kind === 'ami' ? it : { kind: 'disk', path: join(stateDir, it.file), format: it.format, sizeBytes: it.sizeBytes }

/** AMI id, or the disk's path: what stdout names. */
export const nameOf = (baked: Baked): string => (baked.kind === 'ami' ? baked.id : baked.path)
