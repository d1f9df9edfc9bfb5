import { z } from 'zod'

/** What the ledger has of a `full` deployment besides what it has of every deployment (deployments.ts). */

/** What there was before, to be there again, and what is to be done. */
export const fullRecordSchema = z.object({
  sizes: z.object({ min: z.number(), desired: z.number(), max: z.number() }),
  /** Whether the group protects instances that it launches from scale-in. */
  protectsNew: z.boolean(),
  /** Processes that were suspended already. */
  suspended: z.array(z.string()),
  /** The old ones. */
  instances: z.array(z.string()),
  targetGroups: z.array(z.object({ arn: z.string(), name: z.string(), drainSeconds: z.number() })),
  /** Whether instances can be asked how they are, by Systems Manager; else EC2's status checks count. */
  asked: z.boolean(),
  /** `lock`: names its command, and what it leaves on the instance. */
  migrate: z.object({ service: z.string(), command: z.array(z.string()), lock: z.string() }).optional(),
})
export type FullRecord = z.infer<typeof fullRecordSchema>

/** A process of a machine, told from all others. */
const processSchema = z.object({ host: z.string(), pid: z.number(), start: z.string() })
export type ProcessId = z.infer<typeof processSchema>

/** How `migrate` went, as far as anybody knows. */
const outcome = z.enum(['done', 'failed', 'unknown'])
export type Outcome = { outcome: z.infer<typeof outcome>; reason?: string | undefined }

/** In the order in which they are taken; forward to `retiring`, back from `reregistering`, and `restoring` both ways. */
export const ORDER = [
  'suspending',
  'doubling',
  'checking',
  'draining',
  'migrating',
  'registering',
  'retiring',
  'reregistering',
  'removing',
  'restoring',
] as const
export type FullStep = (typeof ORDER)[number]

type Common = { version: z.ZodLiteral<1>; at: z.ZodNumber; by: z.ZodString }

export const fullSteps = (common: Common) =>
  [
    /** Who takes the steps from here on: whoever's beat is younger than the lease, until another claim follows. */
    z.object({ ...common, step: z.literal('claimed'), owner: z.string(), leaseMs: z.number(), process: processSchema }),
    /** It stopped, and left the rest to whoever comes. */
    z.object({ ...common, step: z.literal('released'), owner: z.string() }),
    z.object({ ...common, step: z.literal('suspending') }),
    z.object({ ...common, step: z.literal('doubling') }),
    z.object({ ...common, step: z.literal('checking') }),
    /** `instances`: the new ones, which are well. The old ones serve nobody from here on. */
    z.object({ ...common, step: z.literal('draining'), instances: z.array(z.string()) }),
    /** Nothing goes back by itself from here on. */
    z.object({ ...common, step: z.literal('migrating'), instance: z.string() }),
    z.object({ ...common, step: z.literal('migrated'), outcome, reason: z.string().optional() }),
    /** A person has looked: the data is as the new release needs it, or as the old one does. The newest counts; after the latter there is none. */
    z.object({ ...common, step: z.literal('answered'), migrated: z.boolean() }),
    z.object({ ...common, step: z.literal('registering') }),
    z.object({ ...common, step: z.literal('retiring') }),
    z.object({ ...common, step: z.literal('reregistering') }),
    z.object({ ...common, step: z.literal('removing') }),
    z.object({ ...common, step: z.literal('restoring') }),
  ] as const
