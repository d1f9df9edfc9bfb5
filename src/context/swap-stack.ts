import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ServiceDefinition, StackDefinition } from '../config.ts'
import { BakeError, refused } from '../errors.ts'
import { groupNamed } from '../fleet/deploy-plan.ts'
import { inOrder } from '../fleet/order.ts'
import type { Wanted } from '../fleet/swap-plan.ts'
import { checkStack, stackSwapFailed, swapStack } from '../fleet/swap-stack.ts'
import type { SwapStackWorld } from '../fleet/swap-world.ts'
import { AutoScaling } from '../io/autoscaling-client.ts'
import { Groups } from '../io/autoscaling-groups.ts'
import { configuredEndpoint, isEmulated } from '../io/aws-client.ts'
import { AwsDocuments } from '../io/aws-documents.ts'
import { Ec2 } from '../io/ec2.ts'
import { Ec2Instances } from '../io/ec2-instances.ts'
import { Ssm } from '../io/ssm.ts'
import { SsmCommands } from '../io/ssm-commands.ts'
import { SsmParameters } from '../io/ssm-parameters.ts'
import { Heartbeat } from '../jobs/heartbeat.ts'
import { lazyAsker } from './ami-images.ts'
import { openCheckout, type Project } from './project.ts'
import { filtersOf, notSwappable } from './stack.ts'
import type { SwapResult } from './swap.ts'
import { imagesOf, type SwapRequest } from './swap-images.ts'
import { whoami } from './whoami.ts'

/** Agents answer within a second or so. */
const POLL_MS = 1_000
const LEASE_MS = 15_000
/** An emulator on this machine answers at once. */
const EMULATED = { pollMs: 100, leaseMs: 4_000 }
/** Of `images.*.platforms`, in EC2's words. */
const ARCHITECTURES: Record<string, string> = { 'linux/amd64': 'x86_64', 'linux/arm64': 'arm64' }

/** `bake swap` of a stack on AWS. Throws aws_missing or not_swappable (exit 2) and what building and swapStack throw; swap_failed (exit 3) is its `failure`. */
export async function swapOnAws(
  project: Project,
  { name: stack, where, swappable }: StackDefinition,
  services: ServiceDefinition[],
  request: SwapRequest,
): Promise<SwapResult> {
  const { aws, config, ledger } = project
  if (!aws)
    throw refused('aws_missing', `stack ${stack} is on AWS, and bake.yaml has no aws: that says in which region`, {
      next: 'add aws: (docs/aws-setup.md), or use a stack with local: true',
    })
  // What is in production is deployed, unless somebody says otherwise.
  if (swappable === false || (swappable === undefined && 'autoscalingGroup' in where)) throw notSwappable(stack)
  const { emit, signal, atomic } = request
  await using stacked = new AsyncDisposableStack()
  const [ssm, scaling, ec2] = [
    stacked.use(new Ssm(aws.region)),
    stacked.use(new AutoScaling(aws.region)),
    stacked.use(new Ec2(aws.region)),
  ]
  const owner = `swap.${randomBytes(8).toString('hex')}`
  const { pollMs, leaseMs } = isEmulated(await configuredEndpoint('SSM')) ? EMULATED : { pollMs: POLL_MS, leaseMs: LEASE_MS }
  const heartbeat = stacked.use(new Heartbeat(ledger, owner, { leaseMs }))
  const [groups, instances] = [new Groups(scaling), new Ec2Instances(ec2)]
  const world: SwapStackWorld = {
    ...{ project: config.project, stack, ledger, owner, by: whoami(), leaseMs, pollMs },
    // Whoever was away for a lease is taken for dead.
    signal: AbortSignal.any([signal, heartbeat.lost]),
    async instances() {
      if ('local' in where) return []
      if ('targets' in where)
        return (await instances.matching({ ...filtersOf(where.targets), 'instance-state-name': ['pending', 'running'] })).map(
          ({ id }) => id,
        )
      const group = await groupNamed(stack, where.autoscalingGroup, groups)
      return group.instances.filter(({ lifecycle }) => !lifecycle.startsWith('Terminat')).map(({ id }) => id)
    },
    describe: (ids) => instances.matching({ 'instance-id': ids }),
    commands: new SsmCommands(ssm),
    documents: new AwsDocuments(ssm),
    parameters: new SsmParameters(ssm),
    now: () => Date.now(),
    sleep: (ms, until) => sleep(ms, undefined, { signal: until }),
    tell: (level, text) => emit({ type: 'notice', level, text }),
    row: (instance, event) => emit({ type: 'machine', machine: instance, event }),
  }
  // Looked at while the images are built or found: what can't be swapped is told before anybody waits for a build.
  const stop = new AbortController()
  const found = imagesFor(project, services, { ...request, signal: AbortSignal.any([signal, stop.signal]) })
  found.catch(() => {})
  const [ready] = await Promise.all([checkStack(world), heartbeat.start()]).catch(async (error: unknown) => {
    stop.abort(error)
    await found.catch(() => {})
    throw error
  })
  const { commit, wanted } = await found
  try {
    const swapped = await swapStack(wanted, ready, { commit, atomic }, world)
    const failure = stackSwapFailed(stack, swapped)
    return { done: { stack, commit, ...swapped }, ...(failure && { failure }) }
  } catch (error) {
    // What is refused (exit 2) was told before anything was sent.
    if (!(error instanceof BakeError && error.exit === 2))
      world.tell('warning', 'what was sent goes on on the instances: the same command again goes on from there')
    throw error
  }
}

async function imagesFor(
  project: Project,
  services: ServiceDefinition[],
  request: SwapRequest,
): Promise<{ commit: string; wanted: Wanted[] }> {
  const repository = await openCheckout(project, request.signal)
  await using checkout = repository.checkout
  await using asker = lazyAsker(project, repository, request)
  const { commit, references } = await imagesOf(services, { project, checkout, asker }, request)
  const wanted = inOrder(services).map(({ name: service, image }): Wanted => {
    const { repository: path, digest } = references.find((each) => each.image === image)!
    const platforms = project.config.images.find((each) => each.name === image)?.platforms ?? []
    const architectures = platforms.flatMap((platform) => ARCHITECTURES[platform] ?? [])
    return { service, image, reference: `${path}@${digest}`, digest, architectures }
  })
  return { commit, wanted }
}
