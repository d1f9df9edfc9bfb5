import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../errors.ts'
import type { LatestDocument } from './records.ts'
import type { Slots } from './slots.ts'

/** Older publications are nobody's daily work. */
const LATELY_MS = 14 * 24 * 3600 * 1000
/** A worker with more images than this to itself should have been given fewer. */
const MAX_IMAGES = 30
/** Pulling two at a time fills a link; more are only later than one after the other. */
const AT_ONCE = 2
/** A registry in trouble must not keep an idle worker busy for ever. */
const FOLLOW_LIMIT_MS = 10 * 60_000

export interface WarmerOptions {
  slots: Slots
  /** The newest publication of each image that this worker may build, newest first. */
  latest: () => Promise<LatestDocument[]>
  /** Whether the caches were filled with it, or with a build here. */
  isWarm: (document: LatestDocument) => Promise<boolean>
  /** Fills them, in a place of the worker that is free. Throws for what can't be had. */
  warm: (document: LatestDocument, place: number, signal: AbortSignal) => Promise<void>
  /** Whether jobs of the image come to this worker first. */
  prefers: (image: string) => boolean
  onWarmed: (image: string) => void
  onProblem: (text: string) => void
}

/** Fills a worker's caches with what its fleet has built lately: before its first job, and whenever it has nothing to do. */
export class Warmer {
  readonly #options: WarmerOptions
  /** Builds that could not be warmed: once is enough, and the next publication is another. */
  readonly #given = new Set<string>()

  constructor(options: WarmerOptions) {
    this.#options = options
  }

  /** Before the first job: as much as can be had within the limit, its own shards' images first. Never throws. */
  async before(limitMs: number, signal: AbortSignal): Promise<void> {
    const ends = AbortSignal.any([signal, AbortSignal.timeout(limitMs)])
    const wanted = await this.#wanted()
    const own = wanted.filter(({ job }) => this.#options.prefers(job.image))
    const queue = [...own, ...wanted.filter((document) => !own.includes(document))]
    const places = Array.from({ length: Math.min(AT_ONCE, this.#options.slots.count) }, (_, place) => place)
    let ended = 0
    const work = async (place: number) => {
      while (!ends.aborted) {
        const next = queue.shift()
        if (!next) return
        await this.#one(next, place, ends)
        if (!ends.aborted) ended++
      }
    }
    await Promise.all(places.map(work))
    if (ended < wanted.length && !signal.aborted)
      this.#options.onProblem(`${wanted.length - ended} images are not warm after ${limitMs / 1000} s: the rest when idle`)
  }

  /** Until the signal: looks every `everyMs`, while nothing is built, for what others published; stops at once when a job begins. */
  async follow(everyMs: number, signal: AbortSignal): Promise<void> {
    const { slots, prefers } = this.#options
    while (!signal.aborted) {
      await sleep(everyMs, undefined, { signal, ref: false }).catch(() => {})
      if (signal.aborted || slots.free < slots.count) continue
      const job = new AbortController()
      const ends = AbortSignal.any([signal, job.signal, AbortSignal.timeout(FOLLOW_LIMIT_MS)])
      void slots.whenTaken(ends).then(() => job.abort())
      for (const document of (await this.#wanted()).filter(({ job: { image } }) => prefers(image))) {
        if (ends.aborted) break
        // A place that no slot has: a job that comes finds all of them free.
        await this.#one(document, slots.count, ends)
      }
      job.abort()
    }
  }

  async #wanted(): Promise<LatestDocument[]> {
    const since = Date.now() - LATELY_MS
    const documents = await this.#options.latest().catch((error: unknown) => {
      this.#options.onProblem(`what was built lately isn't known: ${messageOf(error)}`)
      return []
    })
    const wanted: LatestDocument[] = []
    for (const document of documents) {
      if (wanted.length >= MAX_IMAGES || document.at < since) break
      if (!this.#given.has(document.build) && !(await this.#options.isWarm(document))) wanted.push(document)
    }
    return wanted
  }

  async #one(document: LatestDocument, place: number, signal: AbortSignal): Promise<void> {
    const { image } = document.job
    try {
      await this.#options.warm(document, place, signal)
      this.#options.onWarmed(image)
    } catch (error) {
      if (signal.aborted) return
      this.#given.add(document.build)
      this.#options.onProblem(`${image} isn't warmed: ${messageOf(error)}`)
    }
  }
}
