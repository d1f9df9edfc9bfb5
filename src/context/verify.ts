import { type ListWorld, listReleases } from '../ami/list.ts'
import type { Proof } from '../ami/machine.ts'
import { proveDisk } from '../ami/prove.ts'
import { nameOf } from '../ami/records.ts'
import { inPhase } from '../ami/steps.ts'
import { releaseOfAmi, replaced, type VerifiedRelease, variantsOf, verifyRelease } from '../ami/verify.ts'
import { openWorkDir } from '../ami/work-dir.ts'
import type { Emit, MachineEvent } from '../events.ts'
import { newBuildId } from '../names.ts'
import { openBakeWorld } from './ami-world.ts'
import { bootDisk, isDiskPath, projectOrNone, qemuMachines } from './machines.ts'
import { openProject } from './project.ts'
import { thisProcess } from './whoami.ts'

export interface VerifyRequest {
  /** A release's name, a disk's path or an AMI's id. */
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
export async function verify(request: VerifyRequest): Promise<Verified[]> {
  if (isDiskPath(request.what)) return [await verifyDisk(request)]
  await using world = await openBakeWorld(await openProject(), request)
  const { what } = request
  const ami = AMI_ID.test(what) ? what : undefined
  const release = ami === undefined ? what : await findRelease(ami, world)
  const verified: VerifiedRelease[] = []
  for (const variant of await variantsOf({ release }, world)) {
    const one = await verifyRelease({ release, variant, ...(ami !== undefined && { ami }) }, world)
    if (one) verified.push(one)
  }
  if (verified.length === 0) throw replaced(ami ?? what, release)
  return verified.map(({ baked, proof, recorded }) => ({ image: nameOf(baked), proof, recorded }))
}

/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html */
const AMI_ID = /^ami-(?:[0-9a-f]{8}|[0-9a-f]{17})$/

async function findRelease(id: string, { ledger, stateDir }: Pick<ListWorld, 'ledger' | 'stateDir'>): Promise<string> {
  // Whether they are still there is asked of the one that is found.
  const { releases } = await listReleases({ ledger, stateDir, has: async () => true })
  return releaseOfAmi(id, releases)
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
