import { mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { BakeError, failed, refused, unavailable } from '../../errors.ts'
import { failpoint } from '../../failpoint.ts'
import type { ChangeEnd, DiskChange } from '../../io/change-disk.ts'
import type { FoundFileSystem } from '../../io/disk-file-systems.ts'
import type { Layer } from '../../io/disk-layers.ts'
import type { Backing } from '../../io/qemu-img.ts'
import type { BakeRun, MachinePlan } from '../machine.ts'
import { isLoopback, type MachineLogin, registriesOf } from '../registries.ts'
import { machineKit } from '../render.ts'
import { inPhase } from '../steps.ts'
import type { ChangedBlocks } from './blocks.ts'
import { EXTENTS, explainBlocks } from './explain.ts'
import { rootCandidates } from './fit.ts'
import { type BlockHashes, changedBlocks, compareBlocks, DamagedDisk } from './hashes.ts'
import { type Beginning, copyBase, forget, knownBase, type LineageId, lastDisk, type Parent } from './lineage.ts'
import { ChangeStory } from './story.ts'

/** The last disk, the copy of the base, and another copy of it. */
const ATTEMPTS = 3
/** In the run's directory: where templates/direct/helper.sh looks. */
const DISK = 'disk.qcow2'

export interface DirectWorld {
  /** Absolute: lineages are in it. */
  stateDir: string
  layers(path: string, format: Backing['format']): Promise<Layer>
  fileSystems(disk: Layer): Promise<FoundFileSystem[] | undefined>
  /** Writes all that a disk holds to the raw file `to`; its blocks' hashes. */
  copyDisk(from: Backing, to: string, signal: AbortSignal): Promise<BlockHashes>
  /** Makes a file that holds only what will differ from `backing`, and tells of it by pieces that are parts of a block. */
  overlay(path: string, backing: Backing, signal: AbortSignal): Promise<void>
  /** Names another file of the same content as what an overlay stands on. */
  rebase(path: string, backing: string): Promise<void>
  change(change: Omit<DiskChange, 'script' | 'way'>): Promise<ChangeEnd>
  login(hosts: string[]): Promise<MachineLogin | undefined>
}

/** A disk as a release wants it, before anything of it is published. Its parents must stay while it is read. */
export interface PreparedDisk extends AsyncDisposable {
  /** A qcow2 file in the run's directory that holds what differs from its parent. */
  path: string
  parent: Parent
  /** Why it began with the base; undefined when it didn't. */
  full?: string
  changed: ChangedBlocks
  /** Of all its blocks. */
  hashes: BlockHashes
  /** With `explain`: which files made how many blocks change, in words. */
  explained?: string[]
}

export interface DirectAsk {
  plan: MachinePlan
  lineage: LineageId
  /** Of a lineage that begins: a disk file. */
  base: Backing
  run: BakeRun
  /** Which files made blocks change is asked for: it takes a second or two. */
  explain?: boolean
}

/**
 * The disk of a release, made from the last one of its lineage, or from the base: what the steps change is written over it, and known by blocks. Throws
 * direct_unfit (exit 4) when this disk can't be changed here, bake_failed (exit 3) with a step's last lines; nothing is left then but files in `run.dir`.
 */
export async function bakeDirect(ask: DirectAsk, world: DirectWorld): Promise<PreparedDisk> {
  const { lineage, run } = ask
  let again: string | undefined
  for (let attempt = 1; ; attempt++) {
    const last = again === undefined && !run.fresh ? await lastDisk(world.stateDir, lineage) : undefined
    const full = again ?? (run.fresh ? '--rebake begins with the base' : last && 'none' in last ? last.none : undefined)
    await using copying = new AsyncDisposableStack()
    const beginning = last && !('none' in last) ? last : await base(ask, world, copying)
    tellBeginning(beginning, full, run)
    try {
      return { ...(await changed(ask, beginning, world)), ...(full !== undefined && { full }) }
    } catch (error) {
      const what = beginning.head ? `the disk of release ${beginning.head.release}` : 'the copy of the base'
      if (error instanceof DamagedDisk) {
        await forget(world.stateDir, lineage, beginning.generation)
        if (attempt === ATTEMPTS) throw damagedAgain(beginning, error.message)
        again = `${what} is thrown away: ${error.message}`
      } else if (beginning.generation > 0 && error instanceof BakeError && error.code === 'direct_unfit') {
        // It was fit when it was baked. It stays the last one until another is published: the reason may be this machine's.
        again = `not from ${what}: ${error.message}`
      } else throw error
      run.tell({ type: 'note', level: 'warning', text: again, t: Date.now() })
      await rm(join(run.dir, DISK), { force: true })
    }
  }
}

/** The base's copy or, while it is made, the base itself. `copying` ends with the copy. */
async function base({ lineage, base, run }: DirectAsk, world: DirectWorld, copying: AsyncDisposableStack): Promise<Beginning> {
  const known = await knownBase(world.stateDir, lineage)
  if (known) return known
  const end = new AbortController()
  const signal = AbortSignal.any([run.signal, end.signal])
  const before = await stat(base.path)
  const copy = copyBase(world.stateDir, lineage, async (to) => {
    const hashes = await inPhase('base', run.tell, () => world.copyDisk(base, to, signal))
    const { ino, size, mtimeMs } = await stat(base.path)
    if (ino === before.ino && size === before.size && mtimeMs === before.mtimeMs) return hashes
    throw refused('disk_changed', `${base.path} changed while it was copied`, {
      next: 'stop what writes to it, then try again',
      ids: { path: base.path },
    })
  })
  copying.defer(async () => {
    end.abort()
    await copy.catch(() => {})
  })
  // What isn't raw has to be unpacked first.
  if (base.format !== 'raw') return copy
  copy.catch(() => {})
  return { path: base.path, format: 'raw', generation: 0, diskBytes: before.size, copy }
}

function tellBeginning({ head }: Beginning, full: string | undefined, run: BakeRun): void {
  const text = head
    ? `from the disk of release ${head.release}, ${head.generation} bakes from the base`
    : `from the base: ${full}`
  run.tell({ type: 'note', level: 'info', text, t: Date.now() })
}

const damagedAgain = ({ path }: Beginning, damage: string): BakeError =>
  unavailable('disk_damaged', `${path} isn't what was just written to it: ${damage}`, {
    next: 'look at the health of the disk that the state directory is on',
    ids: { path },
  })

async function changed(
  { plan, run, explain = false }: DirectAsk,
  beginning: Beginning,
  world: DirectWorld,
): Promise<PreparedDisk> {
  const path = join(run.dir, DISK)
  const roots = await findRoots(beginning, world)
  await world.overlay(path, beginning, run.signal)
  await failpoint('direct-overlay')
  await runSteps({ plan, run, generation: beginning.generation, roots, explain }, world)
  await failpoint('direct-changed')
  const parent = 'copy' in beginning ? await beginning.copy : beginning
  if (parent.path !== beginning.path) await world.rebase(path, parent.path)
  const layer = await world.layers(path, 'qcow2')
  try {
    const { indexes, hashes } = await inPhase('compare', run.tell, () => compareBlocks(layer, parent.hashes))
    await failpoint('direct-compared')
    return {
      ...{ path, parent, hashes, changed: changedBlocks(layer, indexes) },
      ...(explain && { explained: explainBlocks(indexes, await readFile(join(run.dir, EXTENTS), 'utf8')) }),
      [Symbol.asyncDispose]: () => layer[Symbol.asyncDispose](),
    }
  } catch (error) {
    await layer[Symbol.asyncDispose]()
    throw error
  }
}

async function findRoots(parent: Beginning, world: DirectWorld): Promise<FoundFileSystem[]> {
  await using disk = await world.layers(parent.path, parent.format)
  const found = rootCandidates(await world.fileSystems(disk))
  if ('none' in found) throw unfit(found.none)
  return found.roots
}

/** The disk can't be changed here, by what it is. */
const unfit = (reason: string): BakeError =>
  unavailable('direct_unfit', `the disk can't be changed here: ${reason}`, { next: 'machine.baker: packer' })

interface Steps {
  plan: MachinePlan
  run: BakeRun
  generation: number
  roots: FoundFileSystem[]
  explain: boolean
}

async function runSteps({ plan, run, generation, roots, explain }: Steps, world: DirectWorld): Promise<void> {
  const { dir, signal } = run
  for (const { path, text, mode } of machineKit(plan.rendered)) {
    const file = join(dir, 'kit', path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text, { mode })
  }
  await using login = await world.login(registriesOf(plan))
  if (login) {
    run.hide?.(login.secrets)
    const link = join(dir, 'kit/login')
    // That of a disk which is thrown away leads nowhere.
    await rm(link, { force: true })
    await symlink(login.dir, link)
  }
  const story = new ChangeStory(run.tell)
  const mode = generation === 0 ? 'first' : 'next'
  const onLine = (line: string) => story.take(line)
  const end = await world.change({ dir, roots, mode, explain, ports: loopbackPorts(plan), signal, onLine })
  if (end.kind === 'done') return
  const { phase, reasons, lines } = story.fail()
  if (end.kind === 'unfit') throw unfit(end.reason)
  const message = `${phase}: ${reasons.at(-1) ?? `it ended with ${end.how}`}`
  throw failed('bake_failed', [message, ...[...lines, ...reasons.slice(0, -1)].map((line) => `  ${line}`)].join('\n'), {
    next:
      phase === 'setup'
        ? 'no system runs around these scripts; for those that need one: machine.baker: packer'
        : run.keepFailed
          ? `bake run ${join(dir, DISK)} --shell    looks into it`
          : 'bake ami --keep-failed keeps the disk to look into',
    ids: { phase },
  })
}

/** Ports of this machine's own loopback that images come from. */
function loopbackPorts({ services }: MachinePlan): number[] {
  const ports = services.flatMap(({ reference }) =>
    isLoopback(reference) ? (/^[^/]+:(\d+)\//.exec(reference.repository)?.[1] ?? []) : [],
  )
  return [...new Set(ports)].map(Number)
}
