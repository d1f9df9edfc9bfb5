import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TAG } from '../aws-tags.ts'
import { failed, messageOf, refused } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { Ec2BuilderGroups } from '../io/ec2-builder-group.ts'
import type { Ec2Images } from '../io/ec2-images.ts'
import type { Ec2Instances } from '../io/ec2-instances.ts'
import { amiName } from './ami-name.ts'
import type { AmiBase, BakeRun, Baker, MachinePlan } from './machine.ts'
import { instanceTypeOf } from './machine-type.ts'
import { type PackerWorld, runPacker } from './packer-baker.ts'
import { removeAmi } from './register.ts'
import { isLoopback } from './registries.ts'
import { rootUserData } from './root-user-data.ts'

/** Where EC2 is. */
export interface Ec2Place {
  /** Absent: EC2's own address. */
  endpoint?: string
  /** It is an emulator, which knows no regions and has no metadata service. */
  emulated: boolean
  /** SSH of the virtual machine that plays an emulator's instances. */
  ssh?: { host: string; port: number }
}

export interface PackerAmiWorld extends PackerWorld {
  /** Throws tool_missing (exit 4). */
  assertTools(commands: string[]): void
  /** All three of the region that bakes. */
  images: Ec2Images
  instances: Pick<Ec2Instances, 'mayBuild' | 'tagged' | 'terminate'>
  groups: Pick<Ec2BuilderGroups, 'make' | 'mayMake' | 'remove'>
  place: Ec2Place
}

/** Nobody knows the address that this machine's requests come from. Who knocks needs the key of this run. */
const ANYWHERE = ['0.0.0.0/0']
/** This machine, in QEMU's user network: https://www.qemu.org/docs/master/system/devices/net.html#using-the-user-mode-network-stack */
const QEMU_HOST = '10.0.2.2'
/** AMIs by region: https://developer.hashicorp.com/packer/docs/post-processors/manifest; bake's template names one. */
const ARTIFACT = /^([a-z0-9-]+):(ami-[0-9a-z]+)$/

/** Machine images of AMIs by Packer's amazon-ebs: an instance of the base, provisioned over SSH as root, and an image of it. */
export const packerAmiBaker = (world: PackerAmiWorld): Baker => ({
  name: 'packer',
  async available() {
    await world.assertPlugin(await world.packer(), 'amazon')
    world.assertTools(['ssh-keygen'])
  },
  async prevalidate(plan) {
    if (!world.place.emulated) assertReachable(plan)
    await world.instances.mayBuild({ imageId: amiOf(plan).id, type: instanceTypeOf(plan), tags: runTags(plan, 'check') })
    await world.groups.mayMake({ name: 'bake-check', tags: runTags(plan, 'check') })
  },
  async bake(plan, run) {
    const { region } = amiOf(plan)
    await using key = await world.sshKey(run.signal)
    await using group = await securityGroup(plan, run, world)
    await using undo = new AsyncDisposableStack()
    // By tags and names: a Packer that was killed cleans up nothing.
    undo.defer(() => orNote(run, 'what Packer made', removeLeft(plan, run, world)))
    const artifact = await runPacker(plan, run, world, async (write) => {
      await writeFile(join(run.dir, 'user-data'), rootUserData(key.publicKey))
      await write(amiVariables(plan, run, { group: group.id, key: key.privateKeyPath, place: world.place }))
    })
    const id = amiOfArtifact(artifact, region)
    await failpoint('ami-aws-made')
    const { snapshots } = (await world.images.get(id)) ?? (await world.images.waitAvailable(id, run.signal))
    undo.move()
    return { kind: 'ami', region, id, snapshots }
  },
})

/** machine.auto.pkrvars.json of the amazon-ebs template. */
export function amiVariables(
  plan: MachinePlan,
  run: Pick<BakeRun, 'id'>,
  { group, key, place }: { group: string; key: string; place: Ec2Place },
): object {
  const { endpoint, emulated, ssh } = place
  return {
    ami_name: amiName(plan, run.id),
    run: run.id,
    ssh_username: 'root',
    ssh_private_key_file: key,
    user_data_file: 'user-data',
    security_group_ids: [group],
    ...(endpoint !== undefined && { endpoint_ec2: endpoint }),
    ...(emulated && { skip_region_validation: true, skip_metadata_api_check: true }),
    ...(ssh && { ssh_host: ssh.host, ssh_port: ssh.port, loopback: QEMU_HOST }),
  }
}

/** Throws packer_failed (exit 3): it names no AMI of this region. */
export function amiOfArtifact(artifact: string, region: string): string {
  const [, where, id] = ARTIFACT.exec(artifact) ?? []
  if (id !== undefined && where === region) return id
  throw failed('packer_failed', `Packer's manifest names ${JSON.stringify(artifact)}, and one AMI in ${region} was expected`, {
    next: 'a template of your own (machine.templates) may be the reason',
  })
}

function amiOf({ base }: MachinePlan): AmiBase {
  if (base.kind === 'ami') return base
  throw new Error('a disk is baked on this machine')
}

/** Throws registry_on_loopback (exit 2). */
function assertReachable({ services, standIns }: MachinePlan): void {
  const found = [...services.map(({ reference }) => reference), ...standIns].find(isLoopback)
  if (found === undefined) return
  throw refused('registry_on_loopback', `${found.repository} is on this machine, where no instance of EC2 can pull from`, {
    next: 'registry: in bake.yaml names one that instances reach, such as ECR (docs/aws-setup.md)',
    ids: { image: found.image },
  })
}

const runTags = ({ project }: MachinePlan, run: string) => ({
  Name: `bake ${project}`,
  [TAG.project]: project,
  [TAG.run]: run,
})

/** Let through to SSH; gone with the run. */
async function securityGroup(plan: MachinePlan, run: BakeRun, { groups }: PackerAmiWorld) {
  const id = await groups.make({ name: `bake-${run.id}`, tags: runTags(plan, run.id), cidrs: ANYWHERE })
  await failpoint('ami-aws-group')
  return { id, [Symbol.asyncDispose]: () => orNote(run, `the security group ${id}`, groups.remove(id)) }
}

async function removeLeft(plan: MachinePlan, { id }: BakeRun, { images, instances }: PackerAmiWorld): Promise<void> {
  const running = (await instances.tagged({ [TAG.run]: id })).filter(({ state }) => state !== 'terminated')
  await instances.terminate(running.map((instance) => instance.id))
  for (const image of await images.named(amiName(plan, id))) await removeAmi(image.id, images)
}

/** What went wrong before counts, not this. */
const orNote = (run: BakeRun, what: string, removal: Promise<void>): Promise<void> =>
  removal.catch((error: unknown) => {
    const text = `${what} may be left, which bake prune removes: ${messageOf(error)}`
    run.tell({ type: 'note', level: 'warning', text, t: Date.now() })
  })
