import type { MachineDefinition, ServiceDefinition } from '../config.ts'
import type { MachineEvent } from '../events.ts'

export type { MachineEvent } from '../events.ts'

/** As Docker, Debian and EC2's `Architecture` (there: x86_64, arm64) tell processors apart. */
export type Architecture = 'amd64' | 'arm64'

/** A disk file of this machine: raw or qcow2, as found by `qemu-img info`. */
export interface DiskBase {
  kind: 'disk'
  /** Absolute. */
  path: string
  format: 'raw' | 'qcow2'
  /** Of the file's bytes, 64 hex digits. */
  sha256: string
  /** What the disk seems to hold to its machine, bytes. */
  virtualBytes: number
  /** What its root file system has free, room to grow on the disk included; absent when nobody can tell. */
  freeBytes?: number
  architecture: Architecture
  firmware: 'bios' | 'uefi'
}

/** An AMI as DescribeImages tells of it. */
export interface AmiBase {
  kind: 'ami'
  /** `ami-…`, in `region`. */
  id: string
  region: string
  name: string
  ownerId: string
  /** ms since the epoch. */
  createdAt: number
  architecture: Architecture
  bootMode?: string
  rootDevice: string
  virtualBytes: number
}

export type Base = DiskBase | AmiBase

/** An image by digest: `<repository>@<digest>`, the digest being what was published (an index for several platforms). */
export interface ImageReference {
  /** A name of bake.yaml's images, or for a stand-in the reference that it names. */
  image: string
  /** `host[:port]/path`, without tag. */
  repository: string
  /** `sha256:<hex>` */
  digest: string
  /** Compressed, as far as the registry's manifest tells. */
  sizeBytes?: number
}

export interface Service extends ServiceDefinition {
  reference: ImageReference
}

/** A script of the user's, as it is in the release's commit. */
export interface SetupScript {
  path: string
  text: string
}

/** Who a release is: a name, and the commit that it was when it was first asked for. */
export interface Release {
  name: string
  /** Full commit id. */
  commit: string
}

/** A file that the machine gets, or that its baker runs. Paths of the machine are absolute, the others relative to the rendered directory. */
export interface RenderedFile {
  path: string
  text: string
  /** 0o644 or 0o755. */
  mode: number
}

/** What `templates/` makes of a plan, all of it reviewed with `bake render`. Files and steps count for the inputs hash. */
export interface Rendered {
  /** For the machine's disk, by absolute path; the disk's manifest is one of them. */
  files: RenderedFile[]
  /**
   * `steps/<name>.sh`: what the baker runs as root on the machine, in this order: prepare, images, install, setup, rehearse, clean, scan. They find
   * `files/<absolute path>` and `proof.sh` in the directory above them: the baker brings all of `machineKit(rendered)` to /run/bake-bake.
   */
  steps: RenderedFile[]
  /** A bash script for the rehearsal, and for the machine that proves: what stands in there. It decides nothing on the disk. */
  proof: string
  /** machine.pkr.hcl, for a Packer with plugins built in (1.6) and for one that wants them named (from 1.7 on). */
  packer?: { builtIn: string; plugins: string }
}

/** By this name an archive of stand-ins (docker-save(1)) holds an image for a machine whose engine can't know it by its digest. */
export const standInTag = (digest: string): string => `bake-stand-in:${digest.replace(':', '-')}`

/** Everything that is known before a baker starts. */
export interface MachinePlan {
  project: string
  release: Release
  definition: MachineDefinition
  architecture: Architecture
  base: Base
  /** In bake.yaml's order, each with its image's digest. */
  services: Service[]
  /** Images of stand-ins that the proof needs, by the name that `proof.with` gives. */
  standIns: ImageReference[]
  setup: SetupScript[]
  rendered: Rendered
  /** Hash of all that decides the machine image (docs/design.md §8), 64 hex digits. */
  inputs: string
}

/** What finding a machine image takes; rendering is for who bakes one, or proves one anew. */
export type UnrenderedPlan = Omit<MachinePlan, 'rendered'>

/** What the disk says of itself, `/etc/bake/manifest.json`: no name and no date, so that releases with equal content share an image. */
export interface DiskManifest {
  version: 1
  inputs: string
  base: { ami: string } | { disk: string }
  images: { service: string; repository: string; digest: string }[]
}

/**
 * What a baker made. A disk lies in the directory that it was given, and may hold only the differences to one that was made before; an AMI carries the tags
 * `bake:run` and `bake:proven=false`.
 */
export type Baked =
  | { kind: 'disk'; path: string; format: 'qcow2' | 'raw'; sizeBytes: number }
  | ({ kind: 'ami'; copies?: RegionalAmi[] } & RegionalAmi)

/** An AMI in one region. */
export interface RegionalAmi {
  region: string
  id: string
  snapshots: string[]
}

/** What each bake is run with. */
export interface BakeRun {
  /** Build id; the tag `bake:run` of all that is made on AWS. */
  id: string
  /** Empty, its own; the caller removes it. */
  dir: string
  signal: AbortSignal
  tell(event: MachineEvent): void
  /** From now on these never stand in the log that is kept. */
  hide?(secrets: Iterable<string>): void
  /** --keep-failed: a failure leaves the machine as it is, in `dir` if it is a disk. */
  keepFailed?: boolean
  /** Proves the disk of an AMI while that is made; true: nothing else is left to prove. Absent: --no-verify. */
  prove?(disk: Pick<Extract<Baked, { kind: 'disk' }>, 'path' | 'format'>, signal: AbortSignal): Promise<boolean>
  /** --rebake: nothing that was baked before is built upon. */
  fresh?: boolean
}

/** A way to a machine image. */
export interface Baker {
  /** Who bakes; after `bake` who did. */
  readonly name: 'packer' | 'direct'
  /** Its programs are there, in versions that will do: asked before images are built for it. */
  available?(signal: AbortSignal): Promise<void>
  /** Cheap facts, before anything is made or paid for: tools and their versions, permissions, room. */
  prevalidate(plan: MachinePlan, signal: AbortSignal): Promise<void>
  /** Throws bake_failed (exit 3) with the last lines of the step that failed; nothing is left behind then. */
  bake(plan: MachinePlan, run: BakeRun): Promise<Baked>
  /** What was baked in this run is published, and lies where `kept` says. */
  published?(kept: Baked, run: BakeRun): Promise<void>
}

export interface ServiceProof {
  service: string
  level: 'healthy' | 'started'
  /** From power-on, by the machine's own clock. */
  seconds: number
  digest: string
}

/** One boot of a proof. `none`: no network card. `dead`: a card whose network answers nothing. `aws`: a subnet without routes. */
export interface ProvenBoot {
  network: 'none' | 'dead' | 'aws'
  seconds: number
  services: ServiceProof[]
}

export interface Proof {
  at: number
  boots: ProvenBoot[]
  /** Names of `proof.with` that stood in. */
  standIns: string[]
  /** How the machine was emulated. */
  accelerator?: 'kvm' | 'tcg'
}

export interface Prover {
  /** Throws tool_missing (exit 4) when what it boots machines of this architecture with isn't there: asked before minutes of baking. */
  available?(plan: Pick<MachinePlan, 'base' | 'standIns'>): void
  /** Boots a throwaway copy of it. Throws proof_failed (exit 3) with the console's last lines and each failing unit's journal. */
  prove(baked: Baked, plan: MachinePlan, run: BakeRun): Promise<Proof>
}

/** Where machine images of one kind stay: this machine's state directory, or an account of AWS. */
export interface Shelf {
  /** Whether it is still there. */
  has(baked: Baked): Promise<boolean>
  /** Gives it its place under claim `n`, when it is proven or --no-verify was said; what it is from then on. */
  keep(baked: Baked, plan: MachinePlan, n: number): Promise<Baked>
  /** Takes away what was made or kept and isn't published. */
  discard(baked: Baked): Promise<void>
}
