import { setTimeout as sleep } from 'node:timers/promises'
import { refused } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { DeployWorld } from '../fleet/deploy-world.ts'
import type { Deployment } from '../fleet/deployments.ts'
import { GroupChanges } from '../io/autoscaling-changes.ts'
import { AutoScaling } from '../io/autoscaling-client.ts'
import { Groups } from '../io/autoscaling-groups.ts'
import { Refreshes } from '../io/autoscaling-refreshes.ts'
import { configuredEndpoint, isEmulated } from '../io/aws-client.ts'
import { Ec2 } from '../io/ec2.ts'
import { Ec2Images } from '../io/ec2-images.ts'
import { Ec2Instances } from '../io/ec2-instances.ts'
import { Ec2Templates } from '../io/ec2-templates.ts'
import { LoadBalancers } from '../io/load-balancers.ts'
import { Ssm } from '../io/ssm.ts'
import { SsmCommands } from '../io/ssm-commands.ts'
import { SsmParameters } from '../io/ssm-parameters.ts'
import { announceDeployment } from './announce.ts'
import type { Project } from './project.ts'
import { hasEndedHere, thisProcess, whoami } from './whoami.ts'

/** DescribeInstanceRefreshes changes by the minute. */
const POLL_MS = 5_000
/** An emulator on this machine: nobody waits for it. */
const EMULATED_POLL_MS = 100
/** Of whoever takes the steps of a full deployment: a step of it takes minutes, and of a process that died on this machine it is known at once. */
const LEASE_MS = 60_000

export interface OpenDeployWorld extends DeployWorld, AsyncDisposable {
  groups: Groups
  instances: Ec2Instances
  /** `notify:` of bake.yaml, once a deployment has ended. Never throws. */
  announce(deployment: Deployment): Promise<void>
}

/** Throws aws_missing (exit 2). */
export async function openDeployWorld(project: Project, request: { emit: Emit; signal: AbortSignal }): Promise<OpenDeployWorld> {
  const { aws, ledger, config } = project
  const { emit, signal } = request
  if (!aws)
    throw refused('aws_missing', 'stacks of auto-scaling groups need aws: in bake.yaml, which says in which region they are', {
      next: 'add aws: (docs/aws-setup.md), or use a stack with local: true',
    })
  const { region } = aws
  const [scaling, ec2, ssm] = [new AutoScaling(region), new Ec2(region), new Ssm(region)]
  const balancers = new LoadBalancers(region)
  const emulated = isEmulated(await configuredEndpoint('Auto Scaling'))
  return {
    ledger,
    project: config.project,
    groups: new Groups(scaling),
    changes: new GroupChanges(scaling),
    refreshes: new Refreshes(scaling),
    templates: new Ec2Templates(ec2),
    images: new Ec2Images(ec2),
    instances: new Ec2Instances(ec2),
    balancers,
    commands: new SsmCommands(ssm),
    parameters: new SsmParameters(ssm),
    by: whoami(),
    ...{ process: thisProcess(), hasEnded: hasEndedHere, leaseMs: LEASE_MS },
    pollMs: emulated ? EMULATED_POLL_MS : POLL_MS,
    signal,
    sleep: (ms, until) => sleep(ms, undefined, { signal: until }),
    tell: (level, text) => emit({ type: 'notice', level, text }),
    announce: (deployment) => announceDeployment(deployment, project, request),
    async [Symbol.asyncDispose]() {
      await Promise.all([scaling, ec2, ssm, balancers].map((each) => each[Symbol.asyncDispose]()))
    },
  }
}
