import { mkdir, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { BakeError, messageOf } from '../../errors.ts'
import { failpoint } from '../../failpoint.ts'
import type { Baked, BakeRun, Baker, MachinePlan } from '../machine.ts'
import { bakeDirect, type DirectWorld, type PreparedDisk } from './bake.ts'
import { BLOCK_BYTES } from './blocks.ts'
import { type Means, unfitMachine } from './fit.ts'
import { lineageOf, promote } from './lineage.ts'
import { rememberDisk, rememberedDisk } from './next.ts'

export interface DirectBakerWorld extends DirectWorld {
  /** What this machine has for it. */
  means(): Promise<Means>
  /** Who bakes what can't be baked so. */
  packer(): Promise<Baker>
  version: string
  /** --explain */
  explain: boolean
}

/**
 * Disks of this machine by changing the last one, without a virtual machine. What this machine or the disk isn't fit for Packer bakes, which
 * is said.
 */
export function directDiskBaker(world: DirectBakerWorld): Baker {
  let name: Baker['name'] = 'direct'
  const unfit = async ({ architecture }: Pick<MachinePlan, 'architecture'>) => unfitMachine(await world.means(), architecture)
  /** Packer, when it can. */
  const other = async (reason: string, plan: MachinePlan, signal: AbortSignal): Promise<Baker> => {
    name = 'packer'
    try {
      const packer = await world.packer()
      await packer.available?.(signal)
      await packer.prevalidate(plan, signal)
      return packer
    } catch (error) {
      throw error instanceof BakeError ? neither(reason, error) : error
    }
  }
  const say = (reason: string, { tell }: BakeRun) =>
    tell({ type: 'note', level: 'warning', text: `Packer bakes, slowly: ${reason}`, t: Date.now() })
  return {
    get name() {
      return name
    },
    async prevalidate(plan, signal) {
      const reason = await unfit(plan)
      if (reason !== undefined) await other(reason, plan, signal)
    },
    async bake(plan, run) {
      const reason = await unfit(plan)
      if (reason !== undefined) {
        say(reason, run)
        return (await world.packer()).bake(plan, run)
      }
      try {
        return await bakeDisk(plan, run, world)
      } catch (error) {
        if (!(error instanceof BakeError && error.code === 'direct_unfit')) throw error
        const packer = await other(error.message, plan, run.signal)
        say(error.message, run)
        const dir = join(run.dir, 'packer')
        await mkdir(dir)
        return packer.bake(plan, { ...run, dir })
      }
    },
    async published(kept, run) {
      if (name !== 'direct' || kept.kind !== 'disk') return
      // What is published stays so.
      await becomeLast(kept.path, run, world).catch((error: unknown) => {
        const text = `the next bake can't be built upon this one: ${messageOf(error)}`
        run.tell({ type: 'note', level: 'warning', text, t: Date.now() })
      })
    },
  }
}

const neither = (reason: string, { kind, exit, code, message, ids, next }: BakeError): BakeError =>
  new BakeError(kind, exit, code, `bake can't change the disk itself (${reason}), and Packer can't bake it: ${message}`, {
    ids,
    ...(next !== undefined && { next }),
  })

async function bakeDisk(plan: MachinePlan, run: BakeRun, world: DirectBakerWorld): Promise<Baked> {
  const { base } = plan
  if (base.kind !== 'disk') throw new Error('an AMI is baked on AWS')
  const lineage = lineageOf(plan, world.version)
  await using disk = await bakeDirect({ plan, lineage, base, run, explain: world.explain }, world)
  tellChange(disk, run)
  for (const text of disk.explained ?? []) run.tell({ type: 'note', level: 'info', text, t: Date.now() })
  await rememberDisk(disk, { lineage, plan, run })
  return { kind: 'disk', path: disk.path, format: 'qcow2', sizeBytes: (await stat(disk.path)).size }
}

function tellChange({ changed: { indexes } }: PreparedDisk, run: BakeRun): void {
  const mib = (indexes.length * BLOCK_BYTES) / 1024 ** 2
  run.tell({ type: 'note', level: 'info', text: `${indexes.length} blocks changed (${mib} MiB)`, t: Date.now() })
}

async function becomeLast(path: string, run: BakeRun, { stateDir }: DirectBakerWorld): Promise<void> {
  const { lineage, head, hashes } = await rememberedDisk(run)
  await failpoint('direct-published')
  await promote(stateDir, lineage, { ...head, file: relative(stateDir, path) }, hashes)
  await failpoint('direct-promoted')
}
