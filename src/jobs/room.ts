import { messageOf, unavailable } from '../errors.ts'
import type { Disk } from '../io/disk.ts'
import type { Engine } from '../io/engine.ts'
import type { Slots } from './slots.ts'

const GIB = 1024 ** 3
/** A build of a small image on a warm cache takes less; on a small disk, a twentieth of it. */
const LEAST_ENGINE_BYTES = GIB
const LEAST_STATE_BYTES = GIB / 4
const LEAST_SHARE = 0.05
/** A base image is some ten thousand files. */
const LEAST_INODES = 20_000
/** On a machine of the fleet's own, unless bake.yaml says otherwise: the rest of the disk is cache. */
const FLEET_FREE_SHARE = 0.15
/** A collection goes a little further than it must, so that the next build isn't followed by another. */
const HYSTERESIS = 0.1
/** The engine adds up its whole cache for the answer. */
const LOOK_MS = 60_000
/** A worker that always builds makes a pause for a collection after this long. */
const OVERDUE_MS = 10 * 60_000
const TICK_MS = 2_000
/** statfs(2) before each claim, but not for each job of a flood. */
const FRESH_MS = 500

export interface RoomOptions {
  slots: Slots
  engine: Pick<Engine, 'info' | 'cacheBytes' | 'collectCache'>
  disk: (path: string) => Promise<Disk>
  stateDir: string
  /** worker.disk of bake.yaml. */
  limits: { cacheBytes?: number; freeBytes?: number }
  /** A member of a fleet: its engine is bake's own, and a job that finds no room here finds it elsewhere. */
  fleet: boolean
  /** After a collection that took steps' results, the last of them used then (ms since the epoch). */
  onLost: (engine: string, lostUseMs: number) => Promise<void>
  onNote: (text: string) => void
  onProblem: (text: string) => void
  tickMs?: number
}

/**
 * Keeps room for builds: collects the build cache's garbage between builds, never during one, and lets no build begin while the disk of the engine or of
 * the state directory is short of bytes or inodes. Nothing is collected on a machine without limits in bake.yaml that is no fleet's: its engine is its user's.
 */
export class Room implements Disposable {
  readonly #options: RoomOptions
  readonly #timer: NodeJS.Timeout
  #built = true
  #builtSince = performance.now()
  #lookedMs = Number.NEGATIVE_INFINITY
  #seen: { shortage: string | undefined; atMs: number } | undefined
  #root: { path: string | undefined; atMs: number } | undefined
  #held: Disposable | undefined
  #told: string | undefined
  #working: Promise<void> = Promise.resolve()
  #busy = false
  #cacheBytes: number | undefined

  constructor(options: RoomOptions) {
    this.#options = options
    this.#timer = setInterval(() => void this.tick(), options.tickMs ?? TICK_MS).unref()
  }

  /**
   * Before a claim. `later`: another member of the fleet shall have the job, and this one takes no more until there is room. Throws disk_short
   * (exit 4) on a machine by itself, where there is nobody else to wait for.
   */
  async forBuild(): Promise<'room' | 'later'> {
    if (!this.#built) this.#builtSince = performance.now()
    this.#built = true
    const shortage = await this.#shortage()
    if (shortage === undefined) return 'room'
    if (!this.#options.fleet)
      throw unavailable('disk_short', shortage, {
        next: 'free some space (docker system df; docker builder prune), then ask again',
      })
    this.#hold(shortage)
    return 'later'
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
    this.#held?.[Symbol.dispose]()
  }

  /** What the build cache held when it was last looked at. */
  get cacheBytes(): number | undefined {
    return this.#cacheBytes
  }

  /** One look; the timer's work. Never throws. */
  async tick(): Promise<void> {
    if (this.#busy) return
    this.#busy = true
    this.#working = this.#look().catch((error: unknown) => this.#tell(`no room is made: ${messageOf(error)}`))
    await this.#working
    this.#busy = false
  }

  async #look(): Promise<void> {
    const { slots, fleet } = this.#options
    const shortage = fleet ? await this.#shortage() : undefined
    if (shortage !== undefined) this.#hold(shortage)
    const due = (this.#built || shortage !== undefined) && performance.now() - this.#lookedMs >= LOOK_MS && this.#collects
    if (due && slots.busy > 0 && performance.now() - this.#builtSince > OVERDUE_MS && (await this.#wanted()).keep !== undefined)
      this.#held ??= slots.hold()
    if (due && slots.busy === 0) {
      using _all = slots.hold()
      this.#lookedMs = performance.now()
      this.#built = false
      await this.#collect()
    }
    if (!this.#held || slots.busy > 0 || (await this.#shortage()) !== undefined) return
    this.#held[Symbol.dispose]()
    this.#held = undefined
    if (this.#told !== undefined) this.#options.onNote('there is room again: taking jobs')
    this.#told = undefined
  }

  #hold(shortage: string): void {
    this.#held ??= this.#options.slots.hold()
    this.#tell(`${shortage}: taking no job until there is room`)
  }

  get #collects(): boolean {
    const { limits, fleet } = this.#options
    return fleet || limits.cacheBytes !== undefined || limits.freeBytes !== undefined
  }

  async #collect(): Promise<void> {
    const { engine, onLost, onNote } = this.#options
    const { id, used, keep } = await this.#wanted()
    if (keep === undefined) return
    const { leftBytes, lostUseMs } = await engine.collectCache(keep)
    this.#cacheBytes = leftBytes
    if (lostUseMs !== undefined) await onLost(id, lostUseMs)
    onNote(`build cache: ${gigabytes(used - leftBytes)} collected, ${gigabytes(leftBytes)} left`)
  }

  /** How much of the build cache may stay; undefined: all of it. */
  async #wanted(): Promise<{ id: string; used: number; keep: number | undefined }> {
    const { engine, disk, limits, fleet } = this.#options
    const { id, dataRoot } = await engine.info()
    const used = await engine.cacheBytes()
    this.#cacheBytes = used
    let keep = used
    if (limits.cacheBytes !== undefined && used > limits.cacheBytes) keep = limits.cacheBytes * (1 - HYSTERESIS)
    if (dataRoot !== undefined) {
      const { freeBytes, totalBytes, freeInodes, totalInodes } = await disk(dataRoot)
      const free = limits.freeBytes ?? (fleet ? totalBytes * FLEET_FREE_SHARE : 0)
      if (freeBytes < free) keep = Math.min(keep, used - (free * (1 + HYSTERESIS) - freeBytes))
      // Nothing says which records have the files: half of them, least recently used first.
      if (totalInodes > 0 && freeInodes < leastInodes(totalInodes) * 2) keep = Math.min(keep, used / 2)
    }
    return { id, used, keep: used > 0 && keep < used ? Math.max(0, keep) : undefined }
  }

  /** What the disks lack for a build, as a sentence. */
  async #shortage(): Promise<string | undefined> {
    if (this.#seen && performance.now() - this.#seen.atMs < FRESH_MS) return this.#seen.shortage
    const { engine, stateDir, limits } = this.#options
    // Asked once a minute: it costs more than a claim. An engine that doesn't answer is the build's to tell of.
    if (!this.#root || performance.now() - this.#root.atMs > LOOK_MS)
      this.#root = await engine.info().then(
        ({ dataRoot }) => ({ path: dataRoot, atMs: performance.now() }),
        () => undefined,
      )
    const dataRoot = this.#root?.path
    // What is kept free is for the builds that run: half of it may be gone before nothing more is begun.
    const wanted = Math.max(LEAST_ENGINE_BYTES, (limits.freeBytes ?? 0) / 2)
    const engines = dataRoot === undefined ? undefined : await this.#lacks(dataRoot, wanted, limits.freeBytes !== undefined)
    const shortage = engines ?? (await this.#lacks(stateDir, LEAST_STATE_BYTES, false))
    this.#seen = { shortage, atMs: performance.now() }
    return shortage
  }

  async #lacks(path: string, wantedBytes: number, exactly: boolean): Promise<string | undefined> {
    const { freeBytes, totalBytes, freeInodes, totalInodes } = await this.#options.disk(path)
    const least = exactly ? wantedBytes : Math.min(wantedBytes, totalBytes * LEAST_SHARE)
    if (freeBytes < least) return `the disk of ${path} has ${gigabytes(freeBytes)} free of ${gigabytes(least)} that a build needs`
    if (totalInodes > 0 && freeInodes < leastInodes(totalInodes))
      return `the disk of ${path} has ${freeInodes} inodes free of ${leastInodes(totalInodes)} that a build needs`
    return undefined
  }

  /** Once for each state of affairs: what is free changes all the time. */
  #tell(text: string): void {
    const same = text.replace(/[\d.]+ [GM]B|\d+ inodes/g, '')
    if (this.#told === same) return
    this.#told = same
    this.#options.onProblem(text)
  }
}

const leastInodes = (total: number): number => Math.round(Math.min(LEAST_INODES, total * LEAST_SHARE))

const gigabytes = (bytes: number): string =>
  bytes >= GIB ? `${(bytes / GIB).toFixed(1)} GB` : `${Math.max(0, Math.round(bytes / 1024 ** 2))} MB`
