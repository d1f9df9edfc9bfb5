import type { Config, ImageDefinition } from '../config.ts'
import type { Builder } from '../io/builder.ts'
import type { Engine, EngineInfo } from '../io/engine.ts'
import type { GitObjects } from '../io/git-objects.ts'
import type { Ledger } from '../io/ledger.ts'
import type { Reference, Registry } from '../io/registry.ts'
import type { BuildRecord } from '../jobs/records.ts'
import type { WarmthBook } from '../jobs/warmth.ts'

/** The worker's copy of a repository. */
export interface Source {
  /** Brings the commit and the branch's tip here; `tip` is what the branch points to now, undefined when it is gone. */
  fetch(request: { commit: string; branch?: string | undefined; signal: AbortSignal }): Promise<{ tip?: string }>
  readonly objects: GitObjects
  /** Undefined: nobody can tell. */
  defaultBranch(): Promise<string | undefined>
}

/** Everything an image job needs of a worker: wired in context.ts, so that one machine and a fleet differ only there. */
export interface ImageWorld {
  ledger: Ledger
  registry: Registry
  builder(engine: EngineInfo): Builder
  engine: Engine
  /** The worker's name, for people. */
  worker: string
  leaseMs: number
  /** How often claims, cancellations and logs are looked at; the ledger's latency decides. */
  pollMs: number
  /** The repository that this worker may build, or a refusal. */
  source(repository: string): Source
  /** Moves the slot's work tree to `commit`; the tree's root. */
  checkout(
    repository: string,
    slot: number,
    commit: string,
    options: { submodules: boolean; lfs: boolean; signal: AbortSignal },
  ): Promise<string>
  /** Directory of a slot for everything but its tree: stable, on this worker's disk. */
  slotDir(slot: number): string
  /** Where an image goes (`host/path`) and where its caches are. */
  target(image: string): Reference
  cache(image: string, branch: string): string
  /** Parses the commit's own bake.yaml. */
  parseConfig(text: string, file: string): Config
  /** Platforms of an image that names none. */
  defaultPlatforms: string[]
  secrets: SecretStore
  emulated(): Promise<string[]>
  /** What this worker's caches were filled with. */
  warmth: Pick<WarmthBook, 'of' | 'note'>
  /** Asked before a claim: whether there is room for a build. `later`: others shall have it. Throws disk_short (exit 4). */
  room(): Promise<'room' | 'later'>
  /** What this worker claims with now. One that was lost stays lost: take it once per job. */
  lease(): Lease
  /** Told whenever the record of a build that this worker has is another. `takenFrom`: the dead owner of the claim before the newest. */
  onRecord?(record: BuildRecord, takenFrom?: string): void
  /** Told, in a sentence, of what went wrong without failing a build. */
  onProblem(text: string): void
  /** Whether queued builds give way to newer commits of their branch. */
  supersede: boolean
  /** Milliseconds after which a build that still runs is ended. */
  buildTimeoutMs: number
}

export interface Lease {
  /** As claims and beats name this incarnation of the worker. */
  owner: string
  /** Aborted when no beat got through for one lease. */
  lost: AbortSignal
  /** Throws lease_lost then, also when timers are late after a pause. */
  check(): void
}

export interface SecretStore {
  materialise(ids: ImageDefinition['secrets']): Promise<{ files: Record<string, string>; values: string[] } & AsyncDisposable>
}
