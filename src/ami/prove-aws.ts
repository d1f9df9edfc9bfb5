import { setTimeout as sleep } from 'node:timers/promises'
import { TAG } from '../aws-tags.ts'
import { withinSeconds } from '../docker-run.ts'
import { BakeError, messageOf, refused } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { Ec2Images } from '../io/ec2-images.ts'
import type { Ec2Instances, InstanceRequest } from '../io/ec2-instances.ts'
import type { Ec2Network } from '../io/ec2-network.ts'
import type { Ec2Templates, TemplateVersion } from '../io/ec2-templates.ts'
import { InstanceConsole, proofFailed, provenBoot } from './aws-proof-report.ts'
import type { Baked, BakeRun, MachinePlan, Proof, Prover } from './machine.ts'
import { instanceTypeOf } from './machine-type.ts'
import { closedNetwork } from './proof-network.ts'
import { faultsOf } from './proof-report.ts'
import { type StandInWorld, standInVolume } from './stand-in-volume.ts'
import { type BakeLine, withBakeLine } from './user-data.ts'

/** Reads of a volume that is new from a snapshot come from S3, at some MiB/s: an image's first boot is its slowest. */
const BOOT_SECONDS = 900
/** For a container's start, beside what its health check may take (60 s unless bake.yaml says otherwise) and what counts as started. */
const PER_SERVICE_SECONDS = 60
/** For an image of a volume that is new as well, to be read and unpacked. */
const PER_STAND_IN_SECONDS = 300
const POLL_MS = 10_000
/** A console is posted some time after its instance has ended. */
const POSTED_WITHIN_MS = 240_000
/** For containers that ask for instance metadata out of a network of their own. */
const CONTAINER_HOPS = 2
const ENDED = new Set(['shutting-down', 'terminated', 'stopping', 'stopped'])

export interface AwsProofWorld {
  /** All of the region of the AMI. */
  images: Ec2Images
  instances: Ec2Instances
  network: Pick<Ec2Network, 'region' | 'find'>
  templates: Pick<Ec2Templates, 'get' | 'versions'>
  /** Images of another region, for copies. */
  imagesOf(region: string): Pick<Ec2Images, 'tag'>
  /** What brings stand-ins to an instance without a network. */
  standIns(): Promise<StandInWorld>
  pollMs?: number
  postedWithinMs?: number
  /** How long it may take to boot, before the services' own limits. */
  bootSeconds?: number
}

/**
 * Proves an AMI: an instance of it in a subnet that nothing leads out of, started as the launch template would, says on its console how its services are and
 * switches itself off. It is gone on every way out. What is proven is tagged so. Throws proof_failed (exit 3), proof_network_* and ec2_* (exit 4).
 */
export class AwsProver implements Prover {
  readonly #world: AwsProofWorld

  constructor(world: AwsProofWorld) {
    this.#world = world
  }

  async prove(baked: Baked, plan: MachinePlan, run: BakeRun): Promise<Proof> {
    if (baked.kind !== 'ami') throw new Error('a disk is proven on this machine')
    const { images, imagesOf } = this.#world
    const image = await images.waitAvailable(baked.id, run.signal)
    // Before the proof, because it changes how the instance starts.
    if (!image.imdsV2) await images.requireImdsV2(image.id)
    const request = await proofRequest({ id: image.id, rootDevice: image.rootDevice }, plan, run.id, this.#world)
    await using volume = plan.standIns.length > 0 ? await standInVolume(plan, run, await this.#world.standIns()) : undefined
    const boot = await bootAndRead({ ...request, ...(volume && { dataSnapshot: volume.snapshot }) }, plan, run, this.#world)
    await failpoint('ami-aws-proven')
    for (const { id, region, snapshots } of [baked, ...(baked.copies ?? [])]) {
      const there = region === images.region ? images : imagesOf(region)
      await there.tag([id, ...snapshots], { [TAG.proven]: 'true' })
    }
    const standIns = plan.services.flatMap((service) => service.proof.with.map(({ name }) => name))
    return { at: Date.now(), boots: [boot], standIns: [...new Set(standIns)] }
  }
}

/** What would be started to prove `image`; for a DryRun as well. In the first subnet; `subnets` has them all. */
export async function proofRequest(
  image: { id: string; rootDevice: string },
  plan: MachinePlan,
  run: string,
  world: Pick<AwsProofWorld, 'network' | 'templates'>,
): Promise<InstanceRequest & { subnets: string[] }> {
  const [{ subnets, group }, template] = await Promise.all([closedNetwork(world.network), newestVersion(plan, world)])
  const { name, commit } = plan.release
  const line = { proof: 'console', release: name, sha: commit } as const
  const { proof: script } = plan.rendered
  return {
    imageId: image.id,
    rootDevice: image.rootDevice,
    type: template?.instanceType ?? instanceTypeOf(plan),
    subnet: subnets[0]!.id,
    subnets: subnets.map(({ id }) => id),
    group,
    userData: userDataOf(template?.userData, line, script),
    httpTokens: template?.httpTokens === 'optional' ? 'optional' : 'required',
    hopLimit: template?.hopLimit ?? CONTAINER_HOPS,
    tags: { Name: `bake proof of ${plan.project}`, [TAG.project]: plan.project, [TAG.run]: run, [TAG.role]: 'proof' },
    token: `${run}-proof`,
  }
}

/** The template's own, unless it is packed in a way that nobody here can read. */
function userDataOf(own: Buffer | undefined, line: BakeLine, script: string): Buffer {
  const userData = withBakeLine(own, line, script) ?? withBakeLine(undefined, line, script)
  if (userData !== undefined) return userData
  throw refused(
    'proof_too_long',
    'what stands in for the proof (services.*.proof in bake.yaml) is too long for user-data: 16 KiB, packed',
    {
      next: 'make the variables of proof.env fewer or shorter',
    },
  )
}

async function newestVersion(
  { definition }: MachinePlan,
  { templates }: Pick<AwsProofWorld, 'templates'>,
): Promise<TemplateVersion | undefined> {
  const { launchTemplate: name } = definition
  if (name === undefined || (await templates.get(name)) === undefined) return undefined
  return (await templates.versions(name))[0]
}

async function bootAndRead(
  request: Awaited<ReturnType<typeof proofRequest>>,
  plan: MachinePlan,
  run: BakeRun,
  world: AwsProofWorld,
) {
  const { instances } = world
  await using undo = new AsyncDisposableStack()
  const gone = (ids: Promise<string[]>) =>
    ids
      .then((each) => instances.terminate(each))
      .catch((error: unknown) => {
        // What went wrong before counts, not this.
        note(run, 'warning', `an instance of this proof may still run, which bake prune removes: ${messageOf(error)}`)
      })
  // By its tags: an answer that was lost may have started one.
  undo.defer(() => gone(runningOf(run.id, instances)))
  const id = await start(request, instances)
  undo.defer(() => gone(Promise.resolve([id])))
  await failpoint('ami-aws-instance')
  note(run, 'info', `${request.imageId} boots as ${id} (${request.type}) in a subnet without routes`)
  const console = new InstanceConsole((text) => run.tell({ type: 'line', phase: 'proof', text, t: Date.now() }))
  const ended = await readToTheEnd(id, console, plan, run, world)
  const faults = faultsOf(console.report, {
    inputs: plan.inputs,
    services: plan.services.map(({ name, reference, proof }) => ({ name, digest: reference.digest, level: proof.level })),
  })
  if (console.report.ok === undefined && ended !== undefined) faults.push(ended)
  if (faults.length > 0) throw proofFailed(faults, console, { ami: request.imageId, instance: id, region: instances.region })
  const boot = provenBoot(console.report)
  note(run, 'info', `a subnet without routes: ${boot.services.length} services up after ${boot.seconds.toFixed(1)} s`)
  return boot
}

async function runningOf(run: string, instances: Ec2Instances): Promise<string[]> {
  const found = await instances.tagged({ [TAG.run]: run, [TAG.role]: 'proof' })
  return found.filter(({ state }) => state !== 'terminated').map(({ id }) => id)
}

/** In the first zone that has room for it. */
async function start(
  { subnets, ...request }: Awaited<ReturnType<typeof proofRequest>>,
  instances: Ec2Instances,
): Promise<string> {
  let full: unknown
  for (const [at, subnet] of subnets.entries()) {
    try {
      return await instances.run({ ...request, subnet, token: `${request.token}-${at}` })
    } catch (error) {
      if (!(error instanceof BakeError && error.code === 'ec2_capacity')) throw error
      full = error
    }
  }
  throw full
}

/** Until the report's end; else why there is none. */
async function readToTheEnd(
  id: string,
  console: InstanceConsole,
  plan: MachinePlan,
  { signal }: BakeRun,
  { instances, pollMs = POLL_MS, postedWithinMs = POSTED_WITHIN_MS, bootSeconds = BOOT_SECONDS }: AwsProofWorld,
): Promise<string | undefined> {
  const limit = limitSeconds(plan, bootSeconds)
  const end = performance.now() + limit * 1000
  let off: { since: number; why: string } | undefined
  for (;;) {
    console.read(await instances.console(id), off !== undefined)
    if (console.report.ok !== undefined) return undefined
    if (off !== undefined && performance.now() - off.since > postedWithinMs) return off.why
    if (off === undefined && performance.now() > end) return `it took longer than ${limit} s`
    await sleep(pollMs, undefined, { signal })
    const instance = off === undefined ? await instances.get(id) : undefined
    if (instance !== undefined && ENDED.has(instance.state))
      off = { since: performance.now(), why: `the instance ended (${instance.reason ?? instance.state})` }
  }
}

const limitSeconds = ({ services, standIns }: MachinePlan, bootSeconds: number): number =>
  services.reduce(
    (sum, { health }) => sum + withinSeconds(health) + PER_SERVICE_SECONDS,
    bootSeconds + standIns.length * PER_STAND_IN_SECONDS,
  )

const note = (run: BakeRun, level: 'info' | 'warning', text: string) => run.tell({ type: 'note', level, text, t: Date.now() })
