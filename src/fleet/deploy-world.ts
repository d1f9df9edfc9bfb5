import type { Group, Groups } from '../io/autoscaling-groups.ts'
import type { Refreshes } from '../io/autoscaling-refreshes.ts'
import type { Ec2Images } from '../io/ec2-images.ts'
import type { Ec2Instances } from '../io/ec2-instances.ts'
import type { Ec2Templates } from '../io/ec2-templates.ts'
import type { Ledger } from '../io/ledger.ts'

/** What deploying touches. */
export interface DeployWorld {
  ledger: Ledger
  groups: Pick<Groups, 'get' | 'region'>
  refreshes: Pick<Refreshes, 'start' | 'list' | 'rollback'>
  templates: Pick<Ec2Templates, 'get' | 'versions'>
  images: Pick<Ec2Images, 'get'>
  instances: Pick<Ec2Instances, 'type'>
  /** Of Systems Manager: what instances that join read. */
  parameters: { delete(name: string): Promise<void> }
  project: string
  /** `user@machine` */
  by: string
  pollMs: number
  /** Ends the following, not what is followed. */
  signal: AbortSignal
  sleep(ms: number, signal: AbortSignal): Promise<void>
  tell(level: 'info' | 'warning', text: string): void
}

/** Instances of a group by the launch template version that they were launched from: `7` → 3. */
export function instancesByVersion({ instances }: Group): Map<string, number> {
  const found = new Map<string, number>()
  for (const { template } of instances) {
    const version = template?.version ?? ''
    found.set(version, (found.get(version) ?? 0) + 1)
  }
  return found
}
