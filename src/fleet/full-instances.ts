import type { Group, GroupInstance } from '../io/autoscaling-groups.ts'
import type { Run } from './full-run.ts'

const leaves = ({ lifecycle }: GroupInstance): boolean => lifecycle.startsWith('Terminat')
export const idsOf = (instances: { id: string }[]): string[] => instances.map(({ id }) => id)
export const newOf = (run: Run, { instances }: Group): GroupInstance[] =>
  instances.filter((each) => !run.full.instances.includes(each.id) && !leaves(each))
export const oldOf = (run: Run, { instances }: Group): GroupInstance[] =>
  instances.filter((each) => run.full.instances.includes(each.id) && !leaves(each))
