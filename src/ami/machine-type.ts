import { refused } from '../errors.ts'
import type { Ec2Instances } from '../io/ec2-instances.ts'
import { ec2Architecture } from './ami-base.ts'
import type { Architecture, MachinePlan } from './machine.ts'

/** Small, current, and offered in every region; `machine.instance_type` says otherwise. */
const DEFAULTS: Record<Architecture, string> = { amd64: 't3.small', arm64: 't4g.small' }

/** The type of instances that bake, prove and run the machine. */
export const instanceTypeOf = ({ definition, architecture }: Pick<MachinePlan, 'definition' | 'architecture'>): string =>
  definition.instanceType ?? DEFAULTS[architecture]

/** Throws bad_instance_type (exit 2): it doesn't exist in this region, is of another processor, or can't boot what the base boots. */
export async function checkInstanceType(plan: MachinePlan, instances: Pick<Ec2Instances, 'region' | 'type'>): Promise<void> {
  const { base } = plan
  if (base.kind !== 'ami') return
  const name = instanceTypeOf(plan)
  const type = await instances.type(name)
  if (type === undefined) throw bad(name, `there is no such instance type in ${instances.region}`)
  const architecture = ec2Architecture(plan.architecture)
  if (!type.architectures.includes(architecture))
    throw bad(name, `it is ${type.architectures.join(' and ')}, and the base ${base.id} (${base.name}) is ${architecture}`)
  const { bootMode } = base
  if (bootMode !== undefined && bootMode !== 'uefi-preferred' && type.bootModes.length > 0 && !type.bootModes.includes(bootMode))
    throw bad(name, `it boots by ${type.bootModes.join(' or ')}, and the base ${base.id} (${base.name}) needs ${bootMode}`)
}

const bad = (name: string, why: string) =>
  refused('bad_instance_type', `machine.instance_type ${name}: ${why}`, {
    next: 'correct machine.instance_type in bake.yaml',
    ids: { type: name },
  })
