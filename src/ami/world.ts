import type { MachineDefinition } from '../config.ts'
import type { Ledger } from '../io/ledger.ts'
import type { Registry } from '../io/registry.ts'
import type { BakeLog } from './bake-log.ts'
import type { ImageSource } from './images.ts'
import type { Baked, Baker, ImageReference, MachineEvent, MachinePlan, Prover, Shelf, UnrenderedPlan } from './machine.ts'
import type { PlanWorld } from './plan.ts'
import type { LaunchVersion } from './records.ts'
import type { Commits } from './release.ts'
import type { SourceWorld } from './source.ts'
import type { ProcessId } from './work-dir.ts'

/** What `bake ami` needs, wired in context. What a machine image that is there already doesn't need is opened by the call that asks for it. */
export interface BakeWorld extends SourceWorld, PlanWorld {
  ledger: Ledger
  /** Absolute: disks and work directories are in it. */
  stateDir: string
  commits: Commits
  images: ImageSource
  /** Platform of images that name none. */
  defaultPlatform: string
  registry(): Promise<Registry>
  /** Stand-ins by digest, where whoever asked has found them. */
  standIns?: readonly ImageReference[]
  baker(definition: MachineDefinition): Promise<Baker>
  /** Those of the base's kind. */
  prover(kind: Baked['kind']): Promise<Prover>
  shelf(kind: Baked['kind']): Promise<Shelf>
  /** Something was baked upon the base that was found: from now on its name stands for it. */
  keepBase?(): Promise<void>
  /** What else can be refused before anything is made: on AWS options, permissions, the network that proves. */
  check?(plan: MachinePlan, baker: Baker['name'], verify: boolean): Promise<void>
  /** On AWS: the launch template's version of a release; found when it is there. */
  launch?(plan: UnrenderedPlan, baked: Baked, makeDefault: boolean): Promise<LaunchVersion | undefined>
  /** Whether a machine image is still there. */
  has(baked: Baked): Promise<boolean>
  /** Who bakes: `user@machine`, and this process. */
  by: string
  process: ProcessId
  /** Whether a process of this machine has certainly ended. */
  ended(process: ProcessId): boolean
  leaseMs: number
  pollMs: number
  signal: AbortSignal
  /** The story, for whoever asked. */
  tell(event: MachineEvent): void
  /** A log that has all that is told already: then a bake keeps none of its own. */
  log?: { readonly prefix: string; ofBake(): BakeLog }
  /** Called for each claim of somebody else's that is waited for, disposed of when it has ended: a worker gives its slot up meanwhile. */
  idle?(): AsyncDisposable
  /** Whether who asked has let go of it: then it is baked for others that did, and no release is recorded. */
  letGo?(): boolean
}
