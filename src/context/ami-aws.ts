import type { chooseBase, WhichBase } from '../ami/base-pin.ts'
import type { DirectAmiWorld } from '../ami/direct/ami-baker.ts'
import type { AmiBase, MachineEvent, Prover, Shelf } from '../ami/machine.ts'
import type { PackerAmiWorld } from '../ami/packer-ami-baker.ts'
import type { PrunePart } from '../ami/prune.ts'
import type { PruneLedger } from '../ami/prune-aws-records.ts'
import type { StandInWorld } from '../ami/stand-in-volume.ts'
import type { BakeWorld } from '../ami/world.ts'
import { refused } from '../errors.ts'
import type { Ebs } from '../io/ebs.ts'
import { Ec2 } from '../io/ec2.ts'
import { Ec2Images } from '../io/ec2-images.ts'
import { Ec2Instances } from '../io/ec2-instances.ts'
import { Ec2Network } from '../io/ec2-network.ts'
import { Ec2Templates } from '../io/ec2-templates.ts'
import type { Project } from './project.ts'

export interface AwsRequest {
  signal: AbortSignal
  tell(event: MachineEvent): void
}

/** What machine images on AWS need. The SDK is loaded, and EC2 asked, by the first call. */
export interface AmiAws extends AsyncDisposable {
  /** With `refresh` the newest of its name, with an id that one, which must be of that name; else the one that was baked upon before. */
  findBase(base: Parameters<typeof chooseBase>[0], which: WhichBase): Promise<AmiBase>
  /** What `findBase` found is what the name stands for from now on. */
  keepBase(): Promise<void>
  /** What bakes in the home region need of EC2. */
  builder(): Promise<Pick<PackerAmiWorld, 'images' | 'instances' | 'groups' | 'place'>>
  /** And what the direct baker needs, of whatever region. */
  direct(): Promise<Pick<DirectAmiWorld, 'images' | 'snapshots' | 'ebs' | 'pace'>>
  shelf(): Promise<Shelf>
  prover(): Promise<Prover>
  check: NonNullable<BakeWorld['check']>
  launch: NonNullable<BakeWorld['launch']>
  /** What bakes left in the regions that bake.yaml names. */
  prune(world: PruneLedger): Promise<PrunePart>
}

/** Throws aws_missing (exit 2) when bake.yaml names no region. */
export function amiAws({ aws, config, ledger, stateDir }: Project, { signal, tell }: AwsRequest): AmiAws {
  if (!aws)
    throw refused('aws_missing', 'machine.base.ami needs aws: in bake.yaml, which says in which region to bake', {
      next: 'add aws: (docs/aws-setup.md), or start from a disk of this machine: base: { disk: base.raw }, which bake base makes',
    })
  const home = aws.region
  const regions = new Map<string, Ec2>()
  const opened: AsyncDisposable[] = []
  const blocks = new Map<string, Ebs>()
  const ec2 = (region: string): Ec2 => {
    const known = regions.get(region) ?? new Ec2(region)
    regions.set(region, known)
    return known
  }
  const images = (region: string) => new Ec2Images(ec2(region))
  const network = () => new Ec2Network(ec2(home))
  const templates = () => new Ec2Templates(ec2(home))
  let keep = async () => {}
  return {
    async findBase(wanted, which) {
      const { chooseBase } = await import('../ami/base-pin.ts')
      const chosen = await chooseBase(wanted, which, { ledger, images: images(home), tell })
      keep = chosen.keep
      return chosen.base
    },
    keepBase: () => keep(),
    async builder() {
      const [{ Ec2BuilderGroups }, { ec2Place }] = await Promise.all([
        import('../io/ec2-builder-group.ts'),
        import('./ec2-place.ts'),
      ])
      const [instances, groups] = [new Ec2Instances(ec2(home)), new Ec2BuilderGroups(ec2(home))]
      return { images: images(home), instances, groups, place: await ec2Place() }
    },
    async direct() {
      const [{ Ec2Snapshots }, { Ebs }, { Pace }] = await Promise.all([
        import('../io/ec2-snapshots.ts'),
        import('../io/ebs.ts'),
        import('../ami/direct/pace.ts'),
      ])
      const ebs = (region: string): Ebs => {
        const known = blocks.get(region) ?? new Ebs(region)
        blocks.set(region, known)
        return known
      }
      return { images, snapshots: (region) => new Ec2Snapshots(ec2(region)), ebs, pace: new Pace() }
    },
    async shelf() {
      const { awsShelf } = await import('../ami/shelf-aws.ts')
      return awsShelf({ images, signal, tell })
    },
    async prover() {
      const { AwsProver } = await import('../ami/prove-aws.ts')
      const instances = new Ec2Instances(ec2(home))
      return new AwsProver({
        ...{ images: images(home), instances, network: network(), templates: templates(), imagesOf: images },
        standIns: () => standInWorld(home, ec2(home), { stateDir, opened }),
      })
    },
    async check(plan, baker, verify) {
      const { checkAws } = await import('../ami/check-aws.ts')
      // It saves the stand-ins that a proof's instance is given.
      if (verify && plan.standIns.length > 0) (await import('../io/machine-tools.ts')).assertTools(['docker'])
      await checkAws(plan, baker, verify, {
        instances: new Ec2Instances(ec2(home)),
        network: network(),
        templates: templates(),
        images,
      })
    },
    async launch(plan, baked, makeDefault) {
      if (baked.kind !== 'ami') return undefined
      const { templateVersion } = await import('../ami/launch-template.ts')
      const world = { images: images(home), templates: templates(), signal, tell }
      const made = await templateVersion(baked, plan, { makeDefault }, world)
      return made && { name: made.name, version: made.version }
    },
    async prune(ledgerWorld) {
      const [{ awsPart }, { GroupImages }, { Ec2Leftovers }] = await Promise.all([
        import('../ami/prune-aws.ts'),
        import('../io/autoscaling-images.ts'),
        import('../io/ec2-leftovers.ts'),
      ])
      const region = (name: string) => ({
        images: images(name),
        instances: new Ec2Instances(ec2(name)),
        leftovers: new Ec2Leftovers(ec2(name)),
        templates: new Ec2Templates(ec2(name)),
        groups: new GroupImages(name),
      })
      const others = config.machine?.ami.regions ?? []
      return awsPart({ ...ledgerWorld, project: config.project, regions: [...new Set([home, ...others])], region })
    },
    async [Symbol.asyncDispose]() {
      for (const each of [...regions.values(), ...blocks.values(), ...opened]) await each[Symbol.asyncDispose]()
    },
  }
}

/** Loaded when stand-ins are uploaded. */
async function standInWorld(
  region: string,
  ec2: Ec2,
  { stateDir, opened }: { stateDir: string; opened: AsyncDisposable[] },
): Promise<StandInWorld> {
  const [{ Ebs }, { Ec2Snapshots }, { qemuMachines }] = await Promise.all([
    import('../io/ebs.ts'),
    import('../io/ec2-snapshots.ts'),
    import('./machines.ts'),
  ])
  const writer = new Ebs(region)
  opened.push(writer)
  return { save: qemuMachines(stateDir).saveImages, writer, snapshots: new Ec2Snapshots(ec2) }
}
