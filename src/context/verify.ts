import type { Proof } from '../ami/machine.ts'
import { proveDisk } from '../ami/prove.ts'
import { inPhase } from '../ami/steps.ts'
import { verifyRelease } from '../ami/verify.ts'
import { openWorkDir } from '../ami/work-dir.ts'
import type { Emit, MachineEvent } from '../events.ts'
import { newBuildId } from '../names.ts'
import { openBakeWorld } from './ami-world.ts'
import { bootDisk, isDiskPath, projectOrNone, qemuMachines } from './machines.ts'
import { openProject } from './project.ts'
import { thisProcess } from './whoami.ts'

export interface VerifyRequest {
  /** A release's name, or a disk's path. */
  what: string
  emit: Emit
  settled: () => Promise<void>
  signal: AbortSignal
}

export interface Verified {
  /** The disk's path, or the AMI's id. */
  image: string
  proof: Proof
  /** Whether the release counts as proven by it from now on, and didn't before. */
  recorded: boolean
}

/** `bake verify`. Throws proof_failed (exit 3), and what looking at the disk or finding the release throws. */
export async function verify(request: VerifyRequest): Promise<Verified> {
  if (isDiskPath(request.what)) return verifyDisk(request)
  await using world = await openBakeWorld(await openProject(), request)
  const { baked, proof, recorded } = await verifyRelease({ release: request.what }, world)
  return { image: baked.kind === 'disk' ? baked.path : baked.id, proof, recorded }
}

/** A disk on its own: what its manifest names must run. What stands in for neighbours is the release's, so there is nothing of that. */
async function verifyDisk({ what, emit, signal }: VerifyRequest): Promise<Verified> {
  const { stateDir } = await projectOrNone()
  const disk = await bootDisk(what, undefined, signal)
  await using work = await openWorkDir(stateDir, newBuildId(), thisProcess())
  const tell = (event: MachineEvent) => emit({ type: 'machine', event })
  const run = { dir: work.path, signal, tell }
  const proof = await inPhase('proof', tell, () => proveDisk({ disk, standIns: [], services: [] }, run, qemuMachines(stateDir)))
  return { image: disk.path, proof: { ...proof, standIns: [] }, recorded: false }
}
