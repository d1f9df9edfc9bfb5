import { execFileSync } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { directAmiBaker } from '../../src/ami/direct/ami-baker.ts'
import { BLOCK_BYTES } from '../../src/ami/direct/blocks.ts'
import { hashReader } from '../../src/ami/direct/hashes.ts'
import { Pace } from '../../src/ami/direct/pace.ts'
import type { AmiBase } from '../../src/ami/machine.ts'
import { awsShelf } from '../../src/ami/shelf-aws.ts'
import { copyDisk } from '../../src/io/copy-disk.ts'
import { openLayers } from '../../src/io/disk-layers.ts'
import { Ebs } from '../../src/io/ebs.ts'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2Images } from '../../src/io/ec2-images.ts'
import { Ec2Snapshots } from '../../src/io/ec2-snapshots.ts'
import { createOverlay, rebaseOverlay } from '../../src/io/qemu-img.ts'
import { makeBakeWorld, type TestWorld, type TestWorldOptions } from './bake-world.ts'

export interface DirectAmiOptions extends Omit<TestWorldOptions, 'signal'> {
  base: AmiBase
  /** What each bake in this world makes of the disk: index of a block → the byte that fills it. */
  writes: Record<number, number>
}

/**
 * A bake's world whose machine is an AMI that the direct baker makes: all of it but what runs on the disk, in whose place blocks are written into the overlay. EBS and
 * EC2 are where the environment says.
 */
export async function makeDirectAmiWorld({ base, writes, ...options }: DirectAmiOptions): Promise<TestWorld> {
  const world = await makeBakeWorld(options)
  const opened = new Map<string, { ec2: Ec2; ebs: Ebs }>()
  const of = (region: string) => {
    const found = opened.get(region) ?? { ec2: new Ec2(region), ebs: new Ebs(region) }
    opened.set(region, found)
    return found
  }
  const images = (region: string) => new Ec2Images(of(region).ec2, { pollMs: 5 })
  const shelf = awsShelf({ ...world, images })
  const baker = directAmiBaker({
    ...{ stateDir: world.stateDir, ledger: world.ledger, version: '1', by: world.by, pace: new Pace(), images, explain: false },
    ...{ ebs: (region) => of(region).ebs, snapshots: (region) => new Ec2Snapshots(of(region).ec2, { pollMs: 5 }) },
    ...{ rebase: rebaseOverlay, layers: openLayers, login: async () => undefined },
    means: async () => ({ platform: 'linux', architecture: 'amd64', helper: 'root', missing: [] }),
    fileSystems: async () => [{ type: 'ext4', offset: 0, length: base.virtualBytes }],
    overlay: (path, backing, signal) => createOverlay(path, backing, { tracked: true, signal }),
    async change({ dir }) {
      execFileSync('qemu-io', ['-f', 'qcow2', ...commandsOf(writes), join(dir, 'disk.qcow2')])
      return { kind: 'done' }
    },
    async copyDisk(from, to, signal) {
      const reader = hashReader()
      await copyDisk(from, to, { size: BLOCK_BYTES, onPiece: reader.take, signal })
      return reader.end((await stat(to)).size)
    },
    async packer() {
      throw new Error('Packer has nothing to do here')
    },
  })
  const close = world[Symbol.asyncDispose]
  return Object.assign(world, {
    base: async () => base,
    baker: async () => baker,
    shelf: async () => shelf,
    has: (baked: Parameters<typeof shelf.has>[0]) => shelf.has(baked),
    async [Symbol.asyncDispose]() {
      await close()
      for (const { ec2, ebs } of opened.values()) for (const each of [ec2, ebs]) await each[Symbol.asyncDispose]()
    },
  })
}

const commandsOf = (writes: DirectAmiOptions['writes']): string[] =>
  Object.entries(writes).flatMap(([index, byte]) => ['-c', `write -P ${byte} ${Number(index) * BLOCK_BYTES} ${BLOCK_BYTES}`])
