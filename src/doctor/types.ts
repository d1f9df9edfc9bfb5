import type { AwsSettings, Config } from '../config.ts'
import type { HelperWay } from '../io/disk-helper.ts'
import type { Engine } from '../io/engine.ts'
import type { Queue } from '../io/queue.ts'

export type Status = 'ok' | 'warning' | 'failed' | 'skipped'

export interface Finding {
  status: Status
  /** What was found, in a few words. */
  detail: string
  /** What to do about it: a command or a sentence. */
  fix?: string
}

export interface CheckResult extends Finding {
  /** Stable, for scripts. */
  id: string
}

/** One prerequisite. An error that it throws is a failed check, with the error's own next step. */
export interface Check {
  id: string
  run(world: DoctorWorld, signal: AbortSignal): Promise<Finding>
}

export interface Disk {
  freeBytes: number
  totalBytes: number
  freeInodes: number
  /** 0 where the file system has no fixed number. */
  inodes: number
}

/** What the checks look at. */
export interface DoctorWorld {
  nodeVersion: string
  linux: boolean
  /** This machine as BuildKit names it. */
  platform: string
  /** Throws `config_missing`, `config_unreadable` or `config_invalid`. */
  config(): Promise<Config>
  engine: Engine
  /** `unix://…`, `tcp://…` or `ssh://…` */
  engineHost(): Promise<string>
  /** Environment of the engine's process; undefined when it isn't here or can't be read. */
  engineEnvironment(): Promise<Record<string, string> | undefined>
  buildx(): Promise<{ path: string; version: string } | undefined>
  /** Absolute path of a program in PATH. */
  which(program: string): string | undefined
  /** Those of these programs that aren't there, looked for also where distributions keep those of the system. */
  missingTools(programs: string[]): string[]
  /** Programs and devices that changing disks lacks here. */
  missingForDisks(way: HelperWay | undefined): string[]
  /** How disks are mounted for this user; undefined: not at all. */
  diskHelper(): Promise<HelperWay | undefined>
  /** There is a /dev/kvm that this user may open. */
  kvm(): Promise<boolean>
  emulated(): Promise<string[]>
  /** BAKE_REGISTRY_IMAGE. */
  registryImage: string | undefined
  gitVersion(): Promise<string | undefined>
  /** Output of one git command in the current directory. */
  git(...args: string[]): Promise<string>
  stateDir(): Promise<string>
  hasSecret(id: string): Promise<boolean>
  hasAgent: boolean
  /** Asks the registry for a manifest; throws what HttpRegistry throws. */
  registryHead(repository: string, signal: AbortSignal): Promise<void>
  /** Of a fleet's queues; throws what SqsQueue throws. */
  queueDepth(aws: AwsSettings, queues: { shards?: number; bakes: boolean }): ReturnType<Queue['depth']>
  /** Lists one key of a fleet's ledger; throws what S3Ledger throws. */
  readLedger(aws: AwsSettings, prefix: string | undefined): Promise<void>
  /** Of the file system of `path`, or of the nearest directory above that is there. */
  disk(path: string): Promise<Disk>
  /** Writes to `dir` when it is there, and tells how far the file system's clock is from this one's; else looks whether it can be made. */
  tryWriting(dir: string): Promise<{ skewMs: number } | undefined>
  /** Newest mtime in `dir`, ms; 0 when there is none. */
  newest(dir: string): Promise<number>
  now(): number
}
