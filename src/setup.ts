import type { Emit } from './events.ts'
import type { Resource } from './io/aws-resource.ts'
import { desiredResources } from './setup/desired.ts'
import { stepFor } from './setup/plan.ts'
import type { SetupPlan, SetupTarget, Stores } from './setup/types.ts'

export { policiesFor, policyNotes } from './setup/policies.ts'
export type { SetupPlan, SetupTarget, Step, Stores } from './setup/types.ts'

/** Looks at everything that `target` needs and plans what is missing or different. Changes nothing. */
export async function planSetup(target: SetupTarget, stores: Stores): Promise<SetupPlan> {
  const resources = desiredResources(target)
  const looked = await Promise.all(
    resources.map(async (wanted) => {
      const found = await stores[wanted.kind].look(wanted)
      const unsupported = Object.entries(found?.unsupported ?? {})
      return {
        step: stepFor(wanted, found),
        notes: unsupported.map(([setting, instead]) => `${wanted.kind} ${wanted.name}: ${setting} can't be had here; ${instead}`),
      }
    }),
  )
  const notes = [...notesOn(target), ...looked.flatMap((each) => each.notes)]
  return { steps: looked.flatMap(({ step }) => (step ? [step] : [])), resources, notes }
}

/** Takes the steps of a plan, one after the other. Each can be repeated: after an end in the middle a new plan has what is left. */
export async function applySetup(
  { steps, resources }: SetupPlan,
  stores: Stores,
  { emit, signal }: { emit: Emit; signal: AbortSignal },
): Promise<void> {
  for (const { action, kind, name, differences } of steps) {
    signal.throwIfAborted()
    const wanted = resources.find((each) => each.kind === kind && each.name === name) as Resource
    const settings = differences.map(({ setting }) => setting)
    if (action === 'create') await stores[kind].create(wanted)
    else await stores[kind].change(wanted, settings)
    emit({ type: 'notice', level: 'info', text: `${action === 'create' ? 'created' : 'changed'} ${kind} ${name}` })
  }
}

function notesOn({ ecr, registry }: SetupTarget): string[] {
  if (registry === undefined || ecr !== undefined) return []
  return [`the registry ${registry} is not ECR: repositories there, and who may use them, are for its owner to set up`]
}
