import { refused } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { readClaims } from '../jobs/claims.ts'
import { read } from '../jobs/records.ts'
import { keys } from '../names.ts'
import type { Baked } from './machine.ts'
import {
  bakedOf,
  type LaunchVersion,
  type MachineDocument,
  type ReleaseDocument,
  readMachine,
  readRelease,
  releaseMachineSchema,
  releaseSchema,
} from './records.ts'
import { checkReleaseName } from './release.ts'

export interface ListWorld {
  ledger: Ledger
  stateDir: string
  has(baked: Baked): Promise<boolean>
}

/** A machine image of a release, as the ledger and this machine know it. */
export interface ListedMachine {
  inputs: string
  document: MachineDocument
  baked: Baked
  /** Whether it is still there. */
  there: boolean
  /** The launch template's version of this release. */
  launch?: LaunchVersion
}

export interface ListedRelease {
  release: ReleaseDocument
  /** Newest first. */
  machines: ListedMachine[]
}

/** Records read at once. */
const READ_AT_ONCE = 64

/** All releases, newest first; damaged records are passed over and counted. */
export async function listReleases(world: ListWorld): Promise<{ releases: ListedRelease[]; damaged: number }> {
  const names = await world.ledger.list(keys.releases)
  const documents: (ReleaseDocument | undefined)[] = []
  for (let at = 0; at < names.length; at += READ_AT_ONCE)
    documents.push(
      ...(await Promise.all(
        names.slice(at, at + READ_AT_ONCE).map((name) => read(world.ledger, name, releaseSchema).catch(() => undefined)),
      )),
    )
  const known = documents.filter((document) => document !== undefined).sort((a, b) => b.createdAt - a.createdAt)
  const releases: ListedRelease[] = []
  for (let at = 0; at < known.length; at += READ_AT_ONCE)
    releases.push(...(await Promise.all(known.slice(at, at + READ_AT_ONCE).map((release) => withMachines(release, world)))))
  return { releases, damaged: documents.length - known.length }
}

/** One release by its name. Throws bad_release or unknown_release (exit 2). */
export async function findRelease(name: string, world: ListWorld): Promise<ListedRelease> {
  checkReleaseName(name)
  const release = await readRelease(world.ledger, name)
  if (release) return withMachines(release, world)
  const names = (await world.ledger.list(keys.releases)).map((key) => key.slice(keys.releases.length))
  const near = (await import('../nearest.ts')).closest(name, names)
  throw refused('unknown_release', `there is no release ${name}${near === undefined ? '' : ` (did you mean ${near}?)`}`, {
    next: `bake ami --release ${name}    bakes one, where ${name} is a git tag; bake releases    lists those that there are`,
    ids: { release: name },
  })
}

async function withMachines(release: ReleaseDocument, world: ListWorld): Promise<ListedRelease> {
  const prefix = keys.releaseMachines(release.name)
  const hashes = (await world.ledger.list(prefix)).map((key) => key.slice(prefix.length))
  const found = await Promise.all(
    hashes.map(async (inputs) => {
      const [machine, link] = await Promise.all([
        findMachine(inputs, world),
        read(world.ledger, keys.releaseMachine(release.name, inputs), releaseMachineSchema).catch(() => undefined),
      ])
      return machine && { ...machine, ...(link?.launch && { launch: link.launch }) }
    }),
  )
  const machines = found.filter((machine) => machine !== undefined)
  return { release, machines: machines.sort((a, b) => b.document.bakedAt - a.document.bakedAt) }
}

/** What is published of an inputs hash. */
async function findMachine(inputs: string, world: ListWorld): Promise<ListedMachine | undefined> {
  const { published } = await readClaims(world.ledger, inputs)
  const document = published && (await readMachine(world.ledger, inputs, published.n - 1, published.digest))
  if (!document) return undefined
  const baked = bakedOf(document, world.stateDir)
  return { inputs, document, baked, there: await world.has(baked) }
}
