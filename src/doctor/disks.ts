import { bytes, failedWith, ok, skipped, warning } from './finding.ts'
import type { Check, Disk, DoctorWorld, Finding } from './types.ts'

/** Disks, the state directory and the clock. */

const GIB = 1024 ** 3
/** Files of a small base image and its dependencies; below this a build ends with "no space left" on a disk with room. */
const FEW_INODES = 20_000

interface Need {
  failedBelowBytes: number
  warnBelowBytes: number
  fix: string
}

function judge(path: string, disk: Disk, { failedBelowBytes, warnBelowBytes, fix }: Need): Finding {
  const inodes = disk.inodes === 0 ? '' : `, ${disk.freeInodes} inodes`
  const detail = `${bytes(disk.freeBytes)} of ${bytes(disk.totalBytes)} free${inodes} at ${path}`
  if (disk.freeBytes < failedBelowBytes || (disk.inodes > 0 && disk.freeInodes < FEW_INODES / 10)) return failedWith(detail, fix)
  return disk.freeBytes < warnBelowBytes || (disk.inodes > 0 && disk.freeInodes < FEW_INODES) ? warning(detail, fix) : ok(detail)
}

const engineDisk: Check = {
  id: 'engine_disk',
  async run(world) {
    const info = await world.engine.info().catch(() => undefined)
    if (info === undefined) return skipped("the engine doesn't answer")
    if (info.dataRoot === undefined) return skipped("the engine's disk is not on this machine")
    // A base image and its build take a few GiB; a cache that can't keep ten is cold all the time.
    return judge(info.dataRoot, await world.disk(info.dataRoot), {
      failedBelowBytes: 2 * GIB,
      warnBelowBytes: 10 * GIB,
      fix: 'docker system df, then docker builder prune (the build cache) or docker image prune; or a larger disk',
    })
  },
}

const stateDisk: Check = {
  id: 'state_disk',
  async run(world) {
    const dir = await world.stateDir()
    // The local registry holds every image that is pushed.
    return judge(dir, await world.disk(dir), {
      failedBelowBytes: GIB / 2,
      warnBelowBytes: 2 * GIB,
      fix: 'free some space, or set BAKE_STATE_DIR to a directory on a larger disk',
    })
  },
}

const stateDir: Check = {
  id: 'state_dir',
  async run(world) {
    const dir = await world.stateDir()
    try {
      return ok((await world.tryWriting(dir)) === undefined ? `${dir} can be made` : `${dir} is writable`)
    } catch (error) {
      return failedWith(
        `${dir} can't be written: ${error instanceof Error ? error.message : error}`,
        'make it writable, or set BAKE_STATE_DIR to a directory that is',
      )
    }
  },
}

/** When this was written: no clock that is right shows less. */
const NOT_BEFORE_MS = Date.UTC(2025, 0, 1)
/** Build ids and ages in lists come from this clock; a minute is nothing. */
const SKEW_MS = 60_000

const clock: Check = {
  id: 'clock',
  async run(world: DoctorWorld) {
    const now = world.now()
    const fix = 'timedatectl set-ntp true, or set the clock by hand'
    if (now < NOT_BEFORE_MS)
      return failedWith(`it shows ${new Date(now).toISOString()}: TLS and build ids need the right time`, fix)
    const dir = await world.stateDir()
    const ahead = (await world.newest(dir)) - now
    if (ahead > SKEW_MS)
      return warning(
        `it was set back: files in ${dir} are ${Math.round(ahead / 60_000)} min ahead, so builds may sort wrongly`,
        fix,
      )
    const skew = (await world.tryWriting(dir).catch(() => undefined))?.skewMs ?? 0
    if (Math.abs(skew) > SKEW_MS) return warning(`the clock of ${dir}'s file system is ${Math.round(skew / 1000)} s away`, fix)
    return ok(new Date(now).toISOString())
  },
}

export const diskChecks: Check[] = [engineDisk, stateDisk, stateDir, clock]
