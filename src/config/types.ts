/** A build secret: its id, and the SSM parameter that holds it on AWS. The value never stands here. */
export interface SecretSource {
  id: string
  ssm?: string
}

export interface ImageDefinition {
  name: string
  /** From the directory of bake.yaml; `.` is that directory itself. No `./` in front, no slash at the end. */
  context: string
  /** From the context, as in compose. */
  dockerfile: string
  target?: string
  /** `os/arch[/variant]`; empty: the builder's own. */
  platforms: string[]
  args: Record<string, string>
  secrets: SecretSource[]
  /** Ids of ssh agents: `default` or a name. */
  ssh: string[]
  /** Named contexts: a directory (written like `context`) or `docker-image://REFERENCE`. */
  contexts: Record<string, string>
  network?: 'default' | 'none' | 'host'
  submodules: boolean
  lfs: boolean
  strict: boolean
  maxAgeSeconds?: number
  attest: boolean
}

export interface AwsSettings {
  region: string
  /** SQS queue; its dead-letter queue is `<queue>-dead`. */
  queue: string
  /** S3 bucket of the ledger. */
  bucket: string
}

/** Without a check of its own: the image's HEALTHCHECK, else that it runs. */
export type Health = ({ http: string } | { tcp: number } | { command: string[] } | { own: true }) & { withinSeconds?: number }

export interface PortMapping {
  /** Address on the instance; all when absent. */
  address?: string
  host: number
  container: number
  protocol: 'tcp' | 'udp'
}

/** Stands in for a neighbour while an image is proven. `image` is a name of `images` or any reference. */
export interface StandIn {
  name: string
  image: string
  env: Record<string, string>
  command?: string[]
  health?: Health
}

export interface ServiceDefinition {
  name: string
  image: string
  command?: string[]
  ports: PortMapping[]
  env: Record<string, string>
  /** Absolute path on the instance. */
  envFile?: string
  /** Read at boot: `ssm:/path` or `secret:name`. */
  envFrom: string[]
  user?: string
  /** `source:target[:ro]`; the source is an absolute path or a volume's name. */
  volumes: string[]
  memoryBytes?: number
  cpus?: number
  restart: 'no' | 'always' | 'on-failure' | 'unless-stopped'
  /** Services that start before this one. */
  after: string[]
  log?: { driver: string; options: Record<string, string> }
  imds: boolean
  health?: Health
  proof: { env: Record<string, string>; with: StandIn[]; level: 'healthy' | 'started' }
}

/** What differs between the machine images of one release. */
export interface MachineVariant {
  base: { ami: { id: string } | { owner: string; name: string } } | { disk: string }
  instanceType?: string
  launchTemplate?: string
}

export interface MachineDefinition extends MachineVariant {
  /** More machine images of each release. */
  also: MachineVariant[]
  baker?: 'packer' | 'direct'
  /** Directory of own templates. */
  templates?: string
  /** Scripts that run on the machine before it is saved. */
  setup: string[]
  ami: {
    regions: string[]
    /** AWS account ids. */
    shareWith: string[]
    kmsKey?: string
    deprecateAfterSeconds?: number
    protect: boolean
    volume?: { sizeBytes?: number; type?: string; iops?: number; throughputMiBs?: number }
    bootMode?: 'uefi' | 'uefi-preferred' | 'legacy-bios'
    tags: Record<string, string>
  }
  services: ServiceDefinition[]
}

/** How the instances of a group are replaced: percentages of the group's size. */
export interface Rolling {
  minHealthy: number
  maxHealthy: number
  warmupSeconds?: number
  bakeSeconds?: number
  checkpoints: number[]
  checkpointSeconds?: number
  alarms: string[]
  skipMatching: boolean
}

export interface StackDefinition {
  name: string
  where: { targets: Record<string, string[]> } | { autoscalingGroup: string; rolling: Rolling } | { local: true }
  swappable?: boolean
  migrate?: { service: string; command: string[] }
}

export interface FleetSettings {
  shards?: number
  stealAfterSeconds?: number
  supersede?: boolean
  prefix?: string
}

export interface WorkerSettings {
  slots?: number
  bakes: boolean
  /** Repositories whose jobs a worker takes; empty: only the project's own. */
  repositories: string[]
  /** `cacheBytes`: most that the build cache may hold. `freeBytes`: what stays free on the engine's disk. */
  disk?: { cacheBytes?: number; freeBytes?: number }
}

/** The URL of a webhook, or the variable of the worker that holds it. */
export type HookUrl = { url: string } | { env: string }

export interface NotifyDefinition {
  /** `secretEnv`: the variable of the worker with the secret to sign with. `sqs`: URL or ARN. */
  to: { slack: HookUrl } | { webhook: HookUrl; secretEnv: string } | { sqs: string }
  on: ('built' | 'tagged' | 'failed' | 'cancelled' | 'superseded' | 'baked' | 'deployed' | 'rolled-back')[]
  /** Only these; empty: all. */
  images: string[]
  /** Only these, `*` for any characters; empty: all, and builds without a branch. */
  branches: string[]
}

/** A valid bake.yaml. Lists are in the file's order. */
export interface Config {
  file: string
  project: string
  repository?: string
  aws?: AwsSettings
  /** `host[:port][/path]`; absent: this machine's own registry. */
  registry?: string
  images: ImageDefinition[]
  machine?: MachineDefinition
  stacks: StackDefinition[]
  fleet: FleetSettings
  worker: WorkerSettings
  notify: NotifyDefinition[]
}

/** One thing wrong in a bake.yaml. `line` counts from 1; `path` is dotted (`images.web.platforms.0`), '' for the file as a whole. */
export interface ConfigProblem {
  line?: number
  path: string
  message: string
  /** What was probably meant. */
  suggestion?: string
}
