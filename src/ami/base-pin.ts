import { z } from 'zod'
import { refused } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { read } from '../jobs/records.ts'
import { keys, sha256 } from '../names.ts'
import { type AmiDefinition, type AmiLookup, findAmi } from './ami-base.ts'
import { canonical } from './inputs.ts'
import type { AmiBase } from './machine.ts'

const pinSchema = z.object({
  version: z.literal(1),
  at: z.number(),
  base: z.object({
    kind: z.literal('ami'),
    id: z.string(),
    region: z.string(),
    name: z.string(),
    ownerId: z.string(),
    createdAt: z.number(),
    architecture: z.enum(['amd64', 'arm64']),
    bootMode: z.string().optional(),
    rootDevice: z.string(),
    virtualBytes: z.number(),
  }),
})

export interface BaseName {
  region: string
  owner: string
  name: string
}

const keyOf = (wanted: BaseName) => keys.base(sha256(canonical(wanted)))

/**
 * The AMI that a name has stood for since the first bake: its owner publishes a new one every week, and what is asked for again must stay the same.
 * Undefined before the first bake.
 */
export const pinnedBase = async (wanted: BaseName, ledger: Ledger): Promise<AmiBase | undefined> =>
  (await read(ledger, keyOf(wanted), pinSchema).catch(() => undefined))?.base

/** From now on the name stands for this. */
export async function pinBase(wanted: BaseName, base: AmiBase, ledger: Ledger): Promise<void> {
  await ledger.put(keyOf(wanted), { version: 1, at: Date.now(), base })
}

export interface WhichBase {
  /** The newest of the name, whatever it stood for. */
  refresh: boolean
  /** That one, which must be of that name: somebody else has found it. */
  id?: string
}

/** The AMI that bake.yaml's base is, and what makes its name stand for it from then on. Throws base_mismatch (exit 2) and what findAmi throws. */
export async function chooseBase(
  wanted: AmiDefinition,
  { refresh, id }: WhichBase,
  { ledger, ...lookup }: AmiLookup & { ledger: Ledger },
): Promise<{ base: AmiBase; keep: () => Promise<void> }> {
  const keep = async () => {}
  if ('id' in wanted) return { base: await findAmi(wanted, lookup), keep }
  const { region } = lookup.images
  const name = { region, ...wanted }
  const pinned = refresh ? undefined : await pinnedBase(name, ledger)
  if (pinned && (id === undefined || pinned.id === id)) return { base: pinned, keep }
  const known = id === undefined || (await lookup.images.find(wanted)).some((each) => each.id === id)
  if (!known) throw otherBase(id, wanted, region)
  const base = await findAmi(id === undefined ? wanted : { id }, lookup)
  return { base, keep: () => pinBase(name, base, ledger) }
}

const otherBase = (id: string, { owner, name }: { owner: string; name: string }, region: string) =>
  refused(
    'base_mismatch',
    `${id} is no AMI of owner ${owner} in ${region} with a name like ${name}, which machine.base asks for`,
    {
      next: 'ask again: bake ami --refresh-base    takes the newest',
      ids: { ami: id, region },
    },
  )
