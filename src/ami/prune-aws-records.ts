import { TAG } from '../aws-tags.ts'
import type { Ec2Image } from '../io/ec2-image.ts'
import type { Ledger } from '../io/ledger.ts'
import { type Claims, readClaims } from '../jobs/claims.ts'
import { isAlive } from '../jobs/heartbeat.ts'
import { read } from '../jobs/records.ts'
import { BUILD_ID_PATTERN, buildIdTime, KEY_PATTERN, keys } from '../names.ts'
import { type ListWorld, listReleases } from './list.ts'
import { type BakeRecord, readBake, readMachine, releaseMachineSchema } from './records.ts'

export interface PruneLedger extends Pick<ListWorld, 'has' | 'stateDir'> {
  ledger: Ledger
  /** Whether a process of this machine has certainly ended. */
  ended(process: BakeRecord['process']): boolean
  /** How many releases, the newest, keep their images; all when undefined. */
  keep?: number | undefined
  now?(): number
  /** Launch template versions that stacks run or go back to: `<template's id> <number>`. */
  delivered(): Promise<ReadonlySet<string>>
}

/** What the ledger says of an image that was published. */
export interface Published {
  claims: Claims
  /** A release that counts has it, or somebody bakes the same now. */
  kept: boolean
  why: string
}

/** docs/design.md §8: of a run that nobody here knows to be dead, so long after its beginning. */
const YOUNG_MS = 24 * 3600 * 1000

export interface Over {
  /** For people. */
  why: string
  /** This ledger knows of it: else it may be another ledger's, of the same project. */
  recorded: boolean
}

/** Why a run is over; undefined: it may live. */
export async function runIsOver(run: string, world: PruneLedger): Promise<Over | undefined> {
  if (!BUILD_ID_PATTERN.test(run)) return undefined
  const record = await readBake(world.ledger, run).catch(() => undefined)
  const over = (what: string): Over => ({ why: `the bake of release ${record?.release} ${what}`, recorded: true })
  if (record !== undefined && record.status !== 'running') return over(`has ended (${record.status})`)
  if (record !== undefined && world.ended(record.process)) return over('was killed')
  if ((world.now?.() ?? Date.now()) - buildIdTime(run) < YOUNG_MS) return undefined
  if (record === undefined) return { why: 'no record tells whose it is', recorded: false }
  return (await isAlive(world.ledger, record.owner, record.leaseMs)) ? undefined : over('was lost')
}

/** By AMI id: those of `images`, copies included, that the claim log of their inputs names now. */
export async function publishedImages(images: Ec2Image[], world: PruneLedger): Promise<Map<string, Published>> {
  const { ledger } = world
  const hashes = new Set(images.flatMap(({ tags }) => (KEY_PATTERN.test(tags[TAG.inputs] ?? '') ? [tags[TAG.inputs]!] : [])))
  const [linked, releases] = await Promise.all([linkedImages(world), keptInputs(world)])
  const found = new Map<string, Published>()
  for (const inputs of hashes) {
    const claims = await readClaims(ledger, inputs)
    const { published, holder } = claims
    const document = published && (await readMachine(ledger, inputs, published.n - 1, published.digest))
    const held = holder !== undefined && (await isAlive(ledger, holder.owner, holder.leaseMs))
    if (document?.image.kind !== 'ami') continue
    const { id, copies = [] } = document.image
    const kept = held || releases === undefined || releases.has(inputs) || linked.has(id)
    const why = `none of the newest ${world.keep} releases has it`
    for (const each of [id, ...copies.map((copy) => copy.id)]) found.set(each, { claims, kept, why })
  }
  // What was published once and isn't now may still be what a release was found to be.
  for (const { id, tags } of images) {
    const origin = tags[TAG.copyOf] ?? id
    if (linked.has(origin) && !found.has(id))
      found.set(id, { claims: await readClaims(ledger, tags[TAG.inputs] ?? ''), kept: true, why: '' })
  }
  return found
}

/** Inputs hashes of the releases that keep their images; undefined: all do. */
async function keptInputs(world: PruneLedger): Promise<Set<string> | undefined> {
  if (world.keep === undefined) return undefined
  const { releases } = await listReleases(world)
  return new Set(releases.slice(0, world.keep).flatMap(({ machines }) => machines.map(({ inputs }) => inputs)))
}

/** Images that those releases were baked as, or found to be. */
async function linkedImages(world: PruneLedger): Promise<Set<string>> {
  const { releases } = await listReleases(world)
  const names = releases.slice(0, world.keep ?? releases.length).map(({ release }) => release.name)
  const links = await Promise.all(
    names.map(async (name) => {
      const found = await world.ledger.list(keys.releaseMachines(name))
      return Promise.all(found.map((key) => read(world.ledger, key, releaseMachineSchema).catch(() => undefined)))
    }),
  )
  return new Set(links.flat().flatMap((link) => link?.image ?? []))
}
