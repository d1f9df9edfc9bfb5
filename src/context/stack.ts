import { type Config, nearest, type StackDefinition } from '../config.ts'
import { type BakeError, refused } from '../errors.ts'

/** A stack of bake.yaml. Throws unknown_stack (exit 2). */
export function stackNamed({ stacks }: Config, name: string): StackDefinition {
  const stack = stacks.find((each) => each.name === name)
  if (stack) return stack
  const names = stacks.map((each) => each.name)
  const near = nearest(name, names)
  throw refused('unknown_stack', `bake.yaml has no stack ${name}${near === undefined ? '' : ` (did you mean ${near}?)`}`, {
    next:
      names.length > 0
        ? `there are: ${names.join(', ')}`
        : `stacks: { ${name}: { local: true } }    in bake.yaml runs its services on this machine`,
    ids: { stack: name },
  })
}

/** A stack that is an auto-scaling group. Throws unknown_stack or stack_without_group (exit 2). */
export function groupStack(config: Config, name: string): Extract<StackDefinition['where'], { autoscalingGroup: string }> {
  const { where } = stackNamed(config, name)
  if ('autoscalingGroup' in where) return where
  throw refused('stack_without_group', `stack ${name} is no auto-scaling group, and releases are deployed to those`, {
    next: 'local' in where ? `bake swap --stack ${name} --release RELEASE` : `give stacks.${name} autoscaling_group in bake.yaml`,
    ids: { stack: name },
  })
}

export const notSwappable = (stack: string): BakeError =>
  refused('not_swappable', `stack ${stack} is not to be swapped`, {
    next: `swappable: true in stacks.${stack} of bake.yaml allows it`,
    ids: { stack },
  })

/** As Run Command's targets are called in bake.yaml, in EC2's words. */
export const filtersOf = (targets: Record<string, string[]>): Record<string, string[]> =>
  Object.fromEntries(Object.entries(targets).map(([name, values]) => [name === 'InstanceIds' ? 'instance-id' : name, values]))
