import { basename, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Base, MachineEvent } from '../ami/machine.ts'
import type { MachineDefinition } from '../config.ts'
import { refused } from '../errors.ts'
import type { Project } from './project.ts'

/** Longer than a look at a disk that is known. */
const SOON_MS = 500

/** What a machine starts from: a disk by its path from bake.yaml's directory here, or an AMI of the project's region. */
export async function openBase(
  { base }: MachineDefinition,
  { aws, dir, stateDir }: Project,
  { signal, tell }: { signal: AbortSignal; tell: (event: MachineEvent) => void },
): Promise<Base> {
  if ('ami' in base) {
    if (!aws)
      throw refused('aws_missing', 'machine.base.ami needs aws: in bake.yaml, which says in which region to bake', {
        next: 'add aws: (docs/aws-setup.md), or start from a disk of this machine: base: { disk: base.raw }, which bake base makes',
      })
    const [{ findAmi }, { Ec2 }, { Ec2Images }] = await Promise.all([
      import('../ami/ami-base.ts'),
      import('../io/ec2.ts'),
      import('../io/ec2-images.ts'),
    ])
    await using ec2 = new Ec2(aws.region)
    return await findAmi(base.ami, { images: new Ec2Images(ec2), tell })
  }
  if (aws)
    throw refused('base_elsewhere', 'machine.base.disk is a disk of one machine, and this project is on AWS', {
      next: 'name an AMI: base: { ami: { owner, name } }',
    })
  const { inspectDisk } = await import('../io/base-disk.ts')
  const over = new AbortController()
  void sleep(SOON_MS, undefined, { signal: over.signal }).then(
    () => tell({ type: 'note', level: 'info', text: `reading ${basename(base.disk)}: what it is, is remembered`, t: Date.now() }),
    () => {},
  )
  try {
    return await inspectDisk(resolve(dir, base.disk), stateDir, signal)
  } finally {
    over.abort()
  }
}
