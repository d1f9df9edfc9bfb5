import type { Resource, ResourceStore } from '../io/aws-resource.ts'

export type Stores = Record<Resource['kind'], ResourceStore>

export interface Difference {
  setting: string
  /** Absent when the resource is made anew. */
  from?: unknown
  to: unknown
}

export interface Step {
  action: 'create' | 'change'
  kind: Resource['kind']
  name: string
  differences: Difference[]
}

export interface SetupPlan {
  /** In the order in which they have to be taken. */
  steps: Step[]
  /** Everything that was looked at. */
  resources: Resource[]
  /** What a person should know, in a sentence each. */
  notes: string[]
}

/** What bake.yaml says, names resolved: input of both the plan and the policies. */
export interface SetupTarget {
  /** Of all ARNs: `aws`, `aws-cn`, `aws-us-gov`. */
  partition: string
  aws?: SetupAws
  /** Absent when no machine is baked on AWS. */
  machine?: SetupMachine
  /** Absent when no stack is an auto-scaling group. */
  deploy?: SetupDeploy
  /** Absent when no stack on AWS may be swapped. */
  swap?: SetupSwap
  /** Absent when `registry:` is not ECR. */
  ecr?: SetupRepositories
  /** `registry:` as written, for what is said about it. */
  registry?: string
}

export interface SetupAws {
  region: string
  bucket: string
  /** In front of every key of the ledger: `` or `<prefix>/`. */
  ledgerPrefix: string
  /** Queues of all lanes and shards. */
  queues: string[]
  deadQueue: string
  /** Names of the parameters that secrets come from. */
  parameters: string[]
  /** ARNs of the queues that `notify:` names. */
  noticeQueues: string[]
}

export interface SetupMachine {
  project: string
  /** Where images are baked and proven. */
  region: string
  /** Where they are copied to. */
  copies: string[]
  kmsKey?: string
  launchTemplate?: string
  /** Workers bake: whoever asks needs less. */
  bakes?: boolean
}

export interface SetupDeploy {
  region: string
  project: string
  /** Names of the stacks' auto-scaling groups. */
  groups: string[]
}

export interface SetupSwap {
  region: string
  project: string
  /** Auto-scaling groups whose new instances ask what the stack runs, by stack. */
  groups: Record<string, string>
  /** Tags that stacks choose their instances by, as in bake.yaml. */
  tags: Record<string, string[]>[]
}

export interface SetupRepositories {
  account: string
  region: string
  /** Repository of each image. */
  images: string[]
  cache: string
}
