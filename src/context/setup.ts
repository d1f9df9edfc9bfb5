import { parseQueue } from '../config/syntax-notify.ts'
import { refused } from '../errors.ts'
import { AutoScaling } from '../io/autoscaling-client.ts'
import { AwsBucket } from '../io/aws-bucket.ts'
import { AwsDocuments } from '../io/aws-documents.ts'
import { AwsGroupTags } from '../io/aws-group-tags.ts'
import { AwsProofNetwork } from '../io/aws-proof-network.ts'
import { AwsQueues } from '../io/aws-queues.ts'
import { partitionOf } from '../io/aws-region.ts'
import { AwsRepositories } from '../io/aws-repositories.ts'
import { ecrRegistry } from '../io/ecr-host.ts'
import type { Lane } from '../io/queue.ts'
import { queueName } from '../io/queue-sqs.ts'
import { Ssm } from '../io/ssm.ts'
import { parseReference } from '../reference.ts'
import type { SetupTarget, Stores } from '../setup.ts'
import type { Project } from './project.ts'
import { targetsOf } from './services.ts'

const LANES: readonly Lane[] = ['normal', 'high']

/** What bake.yaml needs in an account. Throws nothing_to_set_up (exit 2) when it names neither `aws:` nor an ECR registry. */
export function setupTarget(project: Project, env: NodeJS.ProcessEnv): SetupTarget {
  const { aws, registry } = project.config
  const ecr = registry === undefined ? undefined : repositoriesOf(project, env)
  const region = aws?.region ?? ecr?.region
  if (region === undefined)
    throw refused(
      'nothing_to_set_up',
      `${project.config.file} has no aws: and no ECR registry: bake needs nothing in an account`,
      {
        next: 'bake image works as it is; for a fleet on AWS, add aws: and registry: first',
        ids: { config: project.config.file },
      },
    )
  return {
    partition: partitionOf(region),
    ...(aws && { aws: awsOf(project, aws) }),
    ...machineOf(project),
    ...deployOf(project),
    ...swapOf(project),
    ...(ecr && { ecr }),
    ...(registry !== undefined && { registry }),
  }
}

function awsOf({ config }: Project, { region, queue, bucket }: NonNullable<Project['aws']>): NonNullable<SetupTarget['aws']> {
  const shards = Array.from({ length: config.fleet.shards ?? 1 }, (_, shard) => shard)
  const secrets = config.images.flatMap((image) => image.secrets)
  const noticeQueues = config.notify.flatMap(({ to }) => ('sqs' in to ? [parseQueue(to.sqs)] : []))
  return {
    region,
    bucket,
    ledgerPrefix: config.fleet.prefix === undefined ? '' : `${config.fleet.prefix}/`,
    queues: [
      ...shards.flatMap((shard) => LANES.map((lane) => queueName(queue, lane, shard))),
      ...(config.worker.bakes ? [queueName(queue, 'machine', 0)] : []),
    ],
    deadQueue: `${queue}-dead`,
    parameters: [...new Set(secrets.flatMap(({ ssm }) => (ssm === undefined ? [] : [ssm])))],
    noticeQueues: noticeQueues.flatMap((found) =>
      found === undefined ? [] : [`arn:${partitionOf(found.region)}:sqs:${found.region}:${found.account}:${found.name}`],
    ),
  }
}

/** Machines on a disk are baked and proven on this machine, whatever else is on AWS. */
function machineOf({ config }: Project): Pick<SetupTarget, 'machine'> {
  const { aws, machine, project } = config
  const all = machine === undefined ? [] : [machine, ...machine.also]
  if (aws === undefined || machine === undefined || !all.some(({ base }) => 'ami' in base)) return {}
  const { region } = aws
  const { ami } = machine
  const launchTemplate = all.find((each) => each.launchTemplate !== undefined)?.launchTemplate
  return {
    machine: {
      project,
      region,
      copies: [...new Set(ami.regions.filter((each) => each !== region))],
      ...(ami.kmsKey !== undefined && { kmsKey: ami.kmsKey }),
      ...(launchTemplate !== undefined && { launchTemplate }),
      ...(config.worker.bakes && { bakes: true }),
    },
  }
}

function deployOf({ config }: Project): Pick<SetupTarget, 'deploy'> {
  const groups = config.stacks.flatMap(({ where }) => ('autoscalingGroup' in where ? [where.autoscalingGroup] : []))
  if (config.aws === undefined || groups.length === 0) return {}
  return { deploy: { region: config.aws.region, project: config.project, groups: [...new Set(groups)] } }
}

/** Stacks that are chosen by tags may be swapped unless bake.yaml says no; groups where it says so. */
function swapOf({ config }: Project): Pick<SetupTarget, 'swap'> {
  if (config.aws === undefined) return {}
  const groups: Record<string, string> = {}
  const tags: Record<string, string[]>[] = []
  for (const { name, where, swappable } of config.stacks) {
    // A group has one such tag: of the first stack that is it.
    if ('autoscalingGroup' in where && swappable === true && !Object.values(groups).includes(where.autoscalingGroup))
      groups[name] = where.autoscalingGroup
    if ('targets' in where && swappable !== false) tags.push(where.targets)
  }
  if (tags.length === 0 && Object.keys(groups).length === 0) return {}
  return { swap: { region: config.aws.region, project: config.project, groups, tags } }
}

function repositoriesOf(project: Project, env: NodeJS.ProcessEnv): SetupTarget['ecr'] {
  const { target, cache } = targetsOf(project, undefined)
  const { host, path } = parseReference(cache('any', 'any'))
  const registry = ecrRegistry(host, env)
  if (registry === undefined) return undefined
  const { account, region } = registry
  return { account, region, images: project.config.images.map(({ name }) => target(name).path), cache: path }
}

/** The account itself. Nothing is asked of it before the first look. */
export function openStores({ aws, ecr, machine, swap }: SetupTarget): { stores: Stores } & AsyncDisposable {
  const queues = new AwsQueues(aws?.region ?? '')
  const buckets = new AwsBucket(aws?.region ?? '')
  const repositories = new AwsRepositories({ region: ecr?.region ?? '', account: ecr?.account ?? '' })
  const networks = new AwsProofNetwork(machine?.region ?? '')
  const [ssm, scaling] = [new Ssm(swap?.region ?? ''), new AutoScaling(swap?.region ?? '')]
  return {
    stores: {
      ...{ queue: queues, bucket: buckets, repository: repositories, network: networks },
      ...{ document: new AwsDocuments(ssm), 'group-tag': new AwsGroupTags(scaling) },
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([queues, buckets, repositories, networks, ssm, scaling].map((each) => each[Symbol.asyncDispose]()))
    },
  }
}
