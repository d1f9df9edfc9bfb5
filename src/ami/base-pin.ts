import { z } from 'zod'
import type { Ledger } from '../io/ledger.ts'
import { read } from '../jobs/records.ts'
import { keys, sha256 } from '../names.ts'
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
