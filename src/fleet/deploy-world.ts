import type { GroupChanges } from '../io/autoscaling-changes.ts'
import type { Group, Groups } from '../io/autoscaling-groups.ts'
import type { Refreshes } from '../io/autoscaling-refreshes.ts'
import type { Ec2Images } from '../io/ec2-images.ts'
import type { Ec2Instances } from '../io/ec2-instances.ts'
import type { Ec2Templates } from '../io/ec2-templates.ts'
import type { Ledger } from '../io/ledger.ts'
import type { LoadBalancers } from '../io/load-balancers.ts'
import type { SsmCommands } from '../io/ssm-commands.ts'
import type { ProcessId } from './full-record.ts'

/** What deploying touches. */
export interface DeployWorld {
  ledger: Ledger
  groups: Pick<Groups, 'get' | 'region' | 'suspend' | 'resume'>
  changes: Pick<GroupChanges, 'update' | 'protect' | 'terminate' | 'trouble'>
  refreshes: Pick<Refreshes, 'start' | 'list' | 'rollback'>
  templates: Pick<Ec2Templates, 'get' | 'versions'>
  images: Pick<Ec2Images, 'get'>
  instances: Pick<Ec2Instances, 'type' | 'passing' | 'state'>
  balancers: Pick<LoadBalancers, 'targetGroups' | 'targets' | 'register' | 'deregister' | 'mayChange'>
  commands: Pick<SsmCommands, 'online' | 'send' | 'find' | 'result'>
  /** Of Systems Manager: what instances that join read. */
  parameters: { delete(name: string): Promise<void> }
  project: string
  /** `user@machine` */
  by: string
  /** This one. */
  process: ProcessId
  /** Whether a process of this machine has certainly ended. */
  hasEnded(process: ProcessId): boolean
  /** How long nobody needs to have heard of whoever takes the steps of a full deployment. */
  leaseMs: number
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
