import { chown, mkdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { size } from '../config/fields.ts'
import { parseSize } from '../config/syntax.ts'
import { refused, unavailable } from '../errors.ts'
import type { Emit } from '../events.ts'
import { assertCanMakeDebian, makeDebianDisk } from '../io/debian-disk.ts'
import { diskOf } from '../io/disk.ts'
import { tryLock } from '../io/host/lock.ts'
import { writeAtomic } from '../io/host/state-dir.ts'
import { sha256 } from '../names.ts'
import { packageFile } from '../package-root.ts'

const MIB = 1024 ** 2
/** Debian with Docker takes 1.1 GB; less than this leaves no room for any image. */
const LEAST_BYTES = 2e9
/** The disk is written sparsely: what the packages take, while their archives are there too. */
const ROOM_BYTES = 2e9

/** Beside the disk: what it is and what it was made from. */
const sidecarSchema = z.strictObject({
  version: z.literal(1),
  /** Hash of the script and the size. */
  inputs: z.string(),
  /** The file as it was when it was made: inode, size and mtime. */
  file: z.string(),
  architecture: z.literal('amd64'),
  firmware: z.literal('bios'),
  bytes: z.number(),
  /** Hash of the names and versions of what is installed. */
  packages: z.string(),
  kernel: z.string(),
  docker: z.string(),
  /** ms since the epoch */
  madeAt: z.number(),
})
type Sidecar = z.infer<typeof sidecarSchema>

export interface MadeBase extends Omit<Sidecar, 'version' | 'file'> {
  disk: string
  /** It was there already. */
  found: boolean
  seconds: number
}

export interface BaseRequest {
  out: string
  /** As in bake.yaml: 4GB. */
  size: string
  emit: Emit
  signal: AbortSignal
}

/**
 * `bake base`: a bootable Debian disk with Docker. One that was made with the same inputs is found. Throws base_exists, bad_flag or base_too_small (exit 2),
 * what assertCanMakeDebian throws, base_busy or disk_short (exit 4), base_failed (exit 3).
 */
export async function makeBase(request: BaseRequest): Promise<MadeBase> {
  const started = performance.now()
  const disk = resolve(request.out)
  const bytes = bytesOf(request.size)
  const script = packageFile('templates/base/debian.sh')
  const inputs = sha256(JSON.stringify([await readFile(script, 'utf8'), bytes]))
  const sidecar = `${disk}.json`
  const seconds = () => (performance.now() - started) / 1000
  const before = await made(disk, sidecar)
  if (before?.inputs === inputs) return { ...told(before), disk, found: true, seconds: seconds() }
  assertCanMakeDebian()
  await assertRoom(dirname(disk))
  await using work = await openWork(`${disk}.making`)
  const packageList = `${work.dir}/packages`
  const fresh = `${work.dir}/disk`
  const phases = phaseTeller(request.emit)
  try {
    await makeDebianDisk({ script, disk: fresh, bytes, packageList, signal: request.signal, ...phases })
  } catch (error) {
    phases.onFailure()
    throw error
  }
  const packages = await readFile(packageList, 'utf8')
  const version = (name: RegExp) =>
    packages.split('\n').flatMap((line) => (name.test(line) ? [line.split('\t')[1] ?? ''] : []))[0] ?? ''
  const about: Sidecar = {
    version: 1,
    inputs,
    file: identity(await stat(fresh)),
    architecture: 'amd64',
    firmware: 'bios',
    bytes,
    packages: sha256(packages),
    kernel: version(/^linux-image-\d/),
    docker: version(/^docker\.io\t/),
    madeAt: Date.now(),
  }
  await giveToCaller(fresh)
  await rename(fresh, disk)
  await writeAtomic(sidecar, `${JSON.stringify(about, null, 2)}\n`)
  await giveToCaller(sidecar)
  return { ...told(about), disk, found: false, seconds: seconds() }
}

function bytesOf(text: string): number {
  const next = '--size 4GB'
  if (!size.safeParse(text).success) throw refused('bad_flag', `--size ${text} is no size`, { next })
  const bytes = Math.ceil(parseSize(text) / MIB) * MIB
  if (bytes < LEAST_BYTES) throw refused('base_too_small', `a disk of ${text} is too small for Debian with Docker`, { next })
  return bytes
}

const told = ({ version: _version, file: _file, ...rest }: Sidecar) => rest

const identity = ({ ino, size, mtimeMs }: { ino: number; size: number; mtimeMs: number }): string =>
  [ino, size, mtimeMs].join(':')

/** What bake made of the disk, if it did and nobody changed it since. Anything else in its place is not ours to replace. */
async function made(disk: string, sidecar: string): Promise<Sidecar | undefined> {
  const found = await stat(disk).catch(() => undefined)
  if (found === undefined) return undefined
  try {
    const about = sidecarSchema.parse(JSON.parse(await readFile(sidecar, 'utf8')))
    if (about.file === identity(found)) return about
  } catch {
    // No sidecar, or another program's.
  }
  throw refused('base_exists', `${disk} is there, and isn't as bake base made it`, {
    next: 'remove it, or make another one with --out',
    ids: { disk },
  })
}

async function assertRoom(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true })
  const { freeBytes } = await diskOf(dir)
  if (freeBytes >= ROOM_BYTES) return
  throw unavailable(
    'disk_short',
    `${dir} has ${Math.round(freeBytes / 1e6)} MB free; making a disk takes ${ROOM_BYTES / 1e6} MB`,
    {
      next: 'free some space, or make it on another disk with --out',
      ids: { dir },
    },
  )
}

/** A directory for what isn't ready, empty: what a killed run left is removed first. */
async function openWork(dir: string): Promise<AsyncDisposable & { dir: string }> {
  await mkdir(dir, { recursive: true })
  const lock = await tryLock(`${dir}/lock`)
  if (!lock)
    throw unavailable('base_busy', `another bake base is making ${dir.replace(/\.making$/, '')}`, { next: 'wait for it' })
  await Promise.all(['disk', 'disk.root', 'packages'].map((name) => rm(`${dir}/${name}`, { recursive: true, force: true })))
  return {
    dir,
    async [Symbol.asyncDispose]() {
      lock.release()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

/** Phases as the CLI tells them. */
function phaseTeller(emit: Emit) {
  let current: { phase: string; since: number } | undefined
  const tell = (phase: string, state: 'started' | 'done' | 'failed', seconds?: number) =>
    emit({ type: 'machine', event: { type: 'phase', phase, state, t: Date.now(), ...(seconds !== undefined && { seconds }) } })
  const end = (state: 'done' | 'failed') => {
    if (current) tell(current.phase, state, (performance.now() - current.since) / 1000)
    current = undefined
  }
  return {
    onPhase(phase: string, state: 'begin' | 'end') {
      if (state === 'end') return end('done')
      current = { phase, since: performance.now() }
      tell(phase, 'started')
    },
    onLine: (text: string) =>
      emit({ type: 'machine', event: { type: 'line', phase: current?.phase ?? 'start', text, t: Date.now() } }),
    onFailure: () => end('failed'),
  }
}

/** What root made for whoever called sudo is theirs. */
async function giveToCaller(path: string): Promise<void> {
  const [uid, gid] = [Number(process.env.SUDO_UID), Number(process.env.SUDO_GID)]
  if (Number.isInteger(uid) && Number.isInteger(gid) && process.getuid?.() === 0) await chown(path, uid, gid)
}
