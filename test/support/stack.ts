import {
  AutoScalingClient,
  CreateAutoScalingGroupCommand,
  CreateLaunchConfigurationCommand,
  DeleteAutoScalingGroupCommand,
  DescribeAutoScalingGroupsCommand,
} from '@aws-sdk/client-auto-scaling'
import { CreateLaunchTemplateCommand, CreateLaunchTemplateVersionCommand } from '@aws-sdk/client-ec2'
import { documentDigest, type MachineDocument } from '../../src/ami/records.ts'
import { S3Ledger } from '../../src/io/ledger-s3.ts'
import { append, readClaims } from '../../src/jobs/claims.ts'
import { keys, newBuildId, sha256 } from '../../src/names.ts'
import { startRefreshes, type TestRefreshes } from './aws-gaps/instance-refreshes.ts'
import { startRunCommand, type TestRunCommand } from './aws-gaps/run-command.ts'
import { type BakeOptions, type BakeResult, type RunningBake, runBake, startBake } from './bake.ts'
import { startEc2, type TestEc2 } from './ec2.ts'
import { Environment } from './environment.ts'
import { MOTO_REGION, uniqueName } from './moto.ts'
import { makeRepo, type TestRepo } from './repo.ts'

const TEMPLATE = 'shop-web'
export const COMMITS = { v1: '1'.repeat(40), v2: '2'.repeat(40), v3: '3'.repeat(40) } as const
export type TestRelease = keyof typeof COMMITS

export interface StackWorld extends AsyncDisposable {
  readonly ec2: TestEc2
  readonly refreshes: TestRefreshes
  readonly commands: TestRunCommand
  readonly repo: TestRepo
  readonly ledger: S3Ledger
  /** AMIs of the releases, whose launch template versions are 1, 2 and 3. */
  readonly images: Record<TestRelease, string>
  /** Writes bake.yaml with these stacks. */
  setStacks(yaml: string): Promise<void>
  /** A group in moto that launches a version of the template, `$Latest` or, with `none`, a launch configuration. */
  makeGroup(options?: { version?: string; size?: number; template?: string }): Promise<string>
  removeGroup(name: string): Promise<void>
  /** Version that the group launches, and those of its instances. */
  group(
    name: string,
  ): Promise<{ version?: string | undefined; instances: (string | undefined)[]; ids: string[]; suspended: string[] }>
  bake(args: string[], options?: BakeOptions): Promise<BakeResult>
  start(args: string[], options?: BakeOptions): RunningBake
}

/** Where image web of a release is, unless a test has one that runs. */
const nowhere = (release: TestRelease): { repository: string; digest: string } => ({
  repository: '127.0.0.1:1/shop/web',
  digest: `sha256:${sha256(release)}`,
})

/** A project on moto whose releases v1 to v3 are recorded as baked and proven: nothing is built. */
export async function makeStackWorld(web: (release: TestRelease) => ReturnType<typeof nowhere> = nowhere): Promise<StackWorld> {
  const ec2 = await startEc2()
  const refreshes = await startRefreshes(ec2.moto.endpoint)
  const environment = new Environment()
  environment.set('AWS_ENDPOINT_URL_AUTO_SCALING', refreshes.endpoint)
  const commands = await startRunCommand(ec2.moto.endpoint)
  environment.set('AWS_ENDPOINT_URL_SSM', commands.endpoint)
  const bucket = await ec2.moto.createBucket()
  const queue = await ec2.moto.createQueues()
  const ledger = new S3Ledger({ region: MOTO_REGION, bucket })
  const repo = await makeRepo({ files: { 'web/Dockerfile': 'FROM scratch\n' } })
  const yaml = (stacks: string) => `project: shop
repository: ${repo.dir}
aws: { region: ${MOTO_REGION}, queue: ${queue}, bucket: ${bucket} }
registry: 127.0.0.1:1
images: { web: { context: web } }
machine:
  base: { ami: { id: ami-12c6146b } }
  launch_template: ${TEMPLATE}
  services: { web: { image: web } }
stacks:
${stacks}`
  const client = new AutoScalingClient({
    region: MOTO_REGION,
    endpoint: refreshes.endpoint,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })
  const images = {} as Record<TestRelease, string>
  for (const [index, release] of (Object.keys(COMMITS) as TestRelease[]).entries())
    images[release] = await makeRelease(release, index + 1, { image: 'web', ...web(release) }, { ec2, ledger })
  return {
    ...{ ec2, refreshes, commands, repo, ledger, images },
    setStacks: async (stacks) => void (await repo.commit({ 'bake.yaml': yaml(stacks) })),
    async makeGroup({ version = '1', size = 2, template = TEMPLATE } = {}) {
      const name = uniqueName('shop')
      const launch =
        version === 'none'
          ? { LaunchConfigurationName: name }
          : { LaunchTemplate: { LaunchTemplateName: template, Version: version } }
      if (version === 'none')
        await client.send(
          new CreateLaunchConfigurationCommand({ LaunchConfigurationName: name, ImageId: images.v1, InstanceType: 't3.small' }),
        )
      const sizes = { MinSize: 1, MaxSize: size + 1, DesiredCapacity: size, AvailabilityZones: [`${MOTO_REGION}a`] }
      await client.send(new CreateAutoScalingGroupCommand({ AutoScalingGroupName: name, ...launch, ...sizes }))
      return name
    },
    removeGroup: async (AutoScalingGroupName) =>
      void (await client.send(new DeleteAutoScalingGroupCommand({ AutoScalingGroupName, ForceDelete: true }))),
    async group(name) {
      const { AutoScalingGroups } = await client.send(new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [name] }))
      const { LaunchTemplate, Instances = [], SuspendedProcesses = [] } = AutoScalingGroups![0]!
      return {
        version: LaunchTemplate?.Version,
        instances: Instances.map((instance) => instance.LaunchTemplate?.Version),
        ids: Instances.map(({ InstanceId = '' }) => InstanceId).sort(),
        suspended: SuspendedProcesses.map(({ ProcessName = '' }) => ProcessName).sort(),
      }
    },
    bake: (args, options = {}) => runBake(args, { cwd: repo.dir, ...options }),
    start: (args, options = {}) => startBake(args, { cwd: repo.dir, ...options }),
    async [Symbol.asyncDispose]() {
      client.destroy()
      environment[Symbol.dispose]()
      await ec2[Symbol.asyncDispose]()
      await refreshes[Symbol.asyncDispose]()
      await commands[Symbol.asyncDispose]()
      await repo[Symbol.asyncDispose]()
    },
  }
}

/** An AMI, a launch template version of it, and the records that `bake ami` leaves. Its id. */
async function makeRelease(
  name: TestRelease,
  version: number,
  web: { image: string; repository: string; digest: string },
  { ec2, ledger }: Pick<StackWorld, 'ec2' | 'ledger'>,
): Promise<string> {
  const commit = COMMITS[name]
  const { id, snapshot } = await ec2.makeImage({ tags: { 'bake:project': 'shop', 'bake:proven': 'true' } })
  const tags = Object.entries({ 'bake:release': name, 'bake:sha': commit }).map(([Key, Value]) => ({ Key, Value }))
  const LaunchTemplateData = {
    ...{ ImageId: id, InstanceType: 't3.small' as const },
    TagSpecifications: [{ ResourceType: 'instance' as const, Tags: tags }],
  }
  const named = { LaunchTemplateName: TEMPLATE, LaunchTemplateData }
  if (version === 1) await ec2.client().send(new CreateLaunchTemplateCommand(named))
  else await ec2.client().send(new CreateLaunchTemplateVersionCommand(named))
  const inputs = sha256(`${name} ${id}`)
  const build = newBuildId()
  const at = Date.now()
  const document: MachineDocument = {
    ...{ version: 1, build, inputs, project: 'shop', release: name, commit, architecture: 'amd64', baker: 'packer' },
    base: { kind: 'ami', region: MOTO_REGION, id: 'ami-12c6146b', name: 'base', createdAt: 1 },
    services: [{ service: 'web', ...web }],
    image: { kind: 'ami', region: MOTO_REGION, id, snapshots: [snapshot] },
    ...{ phases: [], startedAt: at, bakedAt: at },
  }
  await ledger.put(keys.machine(inputs, 0), document)
  const owner = 'test'
  const claimed = await append(ledger, await readClaims(ledger, inputs), { state: 'claimed', build, owner, leaseMs: 60_000 })
  await append(ledger, claimed!, { state: 'published', build, owner, digest: documentDigest(document), sizeBytes: 1 })
  const launch = { name: TEMPLATE, version }
  await ledger.put(keys.releaseMachine(name, inputs), { version: 1, release: name, inputs, image: id, launch, at })
  const release = { version: 1, name, project: 'shop', commit, createdAt: at + version, images: [web], standIns: [] }
  await ledger.put(keys.release(name), release)
  return id
}
