import type { Lane } from '../io/queue.ts'
import { type Ask, Asks, type Line, LONG_POLL_SECONDS } from './asks.ts'

/** How an ask ended: how many messages came, or why none could. */
export type Answer = number | 'failed' | 'missing'

export interface PollOptions {
  /** Queues per lane, as bake.yaml says. */
  shards: number
  /** The longest that a worker whose own queues always have something goes without asking another. None: it never asks others. */
  stealAfterMs?: number | undefined
  /** 0 ≤ x < 1. Workers that looked around in step would all find the same. */
  random: () => number
}

/** A long poll that has been out this long found nothing. */
const QUIET_MS = 500
/** A worker with nothing of its own looks at the others' queues: first after this long, so that what waits for a short build waits for its warm worker … */
const FIRST_LOOK_MS = 5_000
/** … then after twice as long each time, up to as often as its own long polls return nothing. */
const LOOK_MS = LONG_POLL_SECONDS * 1000
/** A worker helps out in a shard whose own workers were too busy until that brought it nothing for this long. */
const HELP_MS = 15 * 60_000
/** A queue that fails is asked again after this long, so that an outage isn't a busy loop. */
const RETRY_MS = 2_000
/** How often it looks for queues beyond those of its own bake.yaml: of a larger K, before or after an upgrade. */
const BEYOND_MS = 10 * 60_000
/** docs/bake-yaml.md: `fleet.shards` is at most this. */
const MAX_SHARDS = 64

/**
 * Which queue a worker asks next, and how long it waits there: all of the routing, with no clock and no I/O of its own, so that the worker
 * (loop.ts) and the simulation (bench/affinity.ts) run the same code.
 *
 * - A slot that became free is the own high lanes' first, then the own normal lanes', in turn: quick asks one after the other, so that one free
 *   slot isn't given to two messages. Where nothing is left to choose, long polls on all of them. They stay out when the slots are taken: SQS
 *   doesn't notice that a poller left and gives it a message all the same (https://github.com/aws/aws-sdk-js/issues/2350), which nobody sees
 *   until its visibility ends. What such a poll brings is handed back.
 * - When its own queues hold nothing, it goes once round the others, quick asks in turn. Who finds something there helps out: that shard is its
 *   own too until it brings nothing for a while. So a shard with more work than its two workers have time for gets as many as it
 *   needs, and they stay warm for it.
 * - With work of its own at all times, it still takes one message from another's queue every `stealAfterMs`, continuing where it stopped.
 *
 * What that costs: an idle worker with p shards of its own (2, 3 when it helps) of K sends per hour 180 × 2p long polls and 180 × 2(K − p) quick
 * asks, 360 K in all whatever p is; K = 20: 7,200. Without shards it is 360.
 */
export class Polling {
  readonly #options: PollOptions
  readonly #lines = new Map<string, Line>()
  #full = true
  /** Since when there is a free slot: what a queue answered before is old. */
  #since = 0
  /** Counts what the normal lanes brought, so that they take turns. */
  #served = 0
  #helping: { shard: number; untilMs: number } | undefined
  /** Queues still to be asked, the first one next. */
  #round: { lines: Line[]; forced: boolean; found: boolean } | undefined
  #cursor: number
  #lookAt = 0
  #pauseMs = FIRST_LOOK_MS
  #lookedAt: number
  /** Shards that there are, those beyond `options.shards` included. */
  #known: number
  #beyondAt = 0

  constructor(options: PollOptions, nowMs: number) {
    this.#options = options
    this.#known = options.shards
    this.#cursor = Math.floor(options.random() * options.shards)
    this.#lookedAt = nowMs
  }

  /**
   * The asks to start now; each is under way until `answered`. Call it whenever one was answered, the number of free slots changed, or
   * `dueMs` has come.
   * @param own the worker's shards, most preferred first; they may differ from call to call.
   */
  next(nowMs: number, free: number, own: readonly number[]): Ask[] {
    if (free === 0) {
      this.#full = true
      this.#round = undefined
      return []
    }
    if (this.#full) {
      this.#full = false
      this.#since = nowMs
      this.#pauseMs = FIRST_LOOK_MS
      this.#lookAt = nowMs + FIRST_LOOK_MS * (0.5 + this.#options.random())
    }
    const mine = this.#withHelp(own, nowMs)
    const asks = new Asks(nowMs, free, this.#lines.values())
    const quiet = (line: Line) => this.#quiet(line, nowMs)
    const highs = mine.map((shard) => this.#line('high', shard))
    const urgent = highs.filter((line) => !line.ask && !quiet(line))
    for (const [at, line] of urgent.entries()) asks.quick(line, urgent.length - at)
    if (!highs.every(quiet)) return asks.made
    for (const line of highs) asks.long(line)

    if (this.#stealsFirst(mine, nowMs)) {
      this.#goRound(asks)
      return asks.made
    }
    this.#askNormal(
      mine.map((shard) => this.#line('normal', shard)),
      asks,
      quiet,
    )
    if (mine.every((shard) => quiet(this.#line('normal', shard)))) {
      if (!this.#round && nowMs >= this.#lookAt) this.#startRound(mine, nowMs, false)
      this.#goRound(asks)
    }
    return asks.made
  }

  answered(ask: Ask, answer: Answer, nowMs: number): void {
    const line = this.#line(ask.lane, ask.shard)
    const found = typeof answer === 'number' && answer > 0
    line.ask = undefined
    line.emptyAt = answer === 0 ? nowMs : Number.NEGATIVE_INFINITY
    if (typeof answer === 'string') line.retryAt = nowMs + RETRY_MS
    if (found && ask.lane === 'normal') this.#served++
    if (ask.shard >= this.#options.shards) this.#learnBeyond(ask.shard, answer, nowMs)
    if (found && this.#helping?.shard === ask.shard) this.#helping.untilMs = nowMs + HELP_MS

    const round = this.#round
    if (round?.lines[0] !== line) return
    if (found) {
      round.found = true
      this.#helping ??= { shard: ask.shard, untilMs: nowMs + HELP_MS }
    } else round.lines.shift()
    if (round.lines.length > 0 && !(found && round.forced)) return
    this.#round = undefined
    this.#lookedAt = nowMs
    this.#pauseMs = round.found ? FIRST_LOOK_MS : Math.min(2 * this.#pauseMs, LOOK_MS)
    this.#lookAt = nowMs + this.#pauseMs * (0.75 + this.#options.random() / 2)
  }

  /** When `next` may have more to ask although nothing was answered and no slot was freed; Infinity when that can't be. */
  dueMs(nowMs: number): number {
    const { stealAfterMs } = this.#options
    const times = stealAfterMs === undefined ? [] : [this.#lookAt, this.#lookedAt + stealAfterMs]
    for (const line of this.#lines.values()) times.push(line.retryAt, line.ask ? line.askedAt + QUIET_MS : 0)
    return times.reduce((least, time) => (time > nowMs && time < least ? time : least), Number.POSITIVE_INFINITY)
  }

  /** The normal lanes in turn, while more than one may hold something; long polls where there is nothing to choose. */
  #askNormal(normals: Line[], asks: Asks, quiet: (line: Line) => boolean) {
    for (const line of normals) if (quiet(line)) asks.long(line)
    if (normals.some((line) => line.ask?.waitSeconds === 0)) return
    const turn = normals.map((_, at) => normals[(at + this.#served) % normals.length]!)
    const [first, second] = turn.filter((line) => !line.ask && !quiet(line))
    if (first && second) asks.quick(first)
    else if (first) asks.long(first)
  }

  #withHelp(own: readonly number[], nowMs: number): readonly number[] {
    if (this.#helping && (this.#helping.untilMs <= nowMs || own.includes(this.#helping.shard))) this.#helping = undefined
    return this.#helping ? [...own, this.#helping.shard] : own
  }

  #stealsFirst(mine: readonly number[], nowMs: number): boolean {
    const { stealAfterMs } = this.#options
    if (!this.#round && stealAfterMs !== undefined && nowMs - this.#lookedAt >= stealAfterMs) this.#startRound(mine, nowMs, true)
    return this.#round?.forced === true
  }

  /** High lanes first; the rest from where the last round stopped, so that each is asked at last. */
  #startRound(mine: readonly number[], nowMs: number, forced: boolean) {
    if (this.#options.stealAfterMs === undefined) return
    const others = Array.from({ length: this.#known }, (_, at) => (at + this.#cursor) % this.#known).filter(
      (shard) => !mine.includes(shard),
    )
    const beyond = nowMs >= this.#beyondAt && this.#known < MAX_SHARDS ? [this.#line('normal', this.#known)] : []
    const lanes = (['high', 'normal'] as const).flatMap((lane) => others.map((shard) => this.#line(lane, shard)))
    const lines = [...lanes, ...beyond].filter((line) => !line.ask && line.retryAt <= nowMs)
    if (lines.length > 0) this.#round = { lines, forced, found: false }
    else this.#lookedAt = nowMs
    this.#lookAt = nowMs + LOOK_MS
  }

  #goRound(asks: Asks) {
    const line = this.#round?.lines[0]
    if (line && !line.ask && asks.quick(line, Number.POSITIVE_INFINITY)) this.#cursor = line.shard + 1
  }

  /** After K was made smaller, what its old queues hold is worked off like any other's; before a worker knows of a larger K, it helps already. */
  #learnBeyond(shard: number, answer: Answer, nowMs: number) {
    if (answer === 'missing') this.#known = Math.min(this.#known, shard)
    else if (answer !== 'failed') this.#known = Math.max(this.#known, shard + 1)
    if (answer !== 'missing') return
    this.#beyondAt = nowMs + BEYOND_MS
    if (this.#helping?.shard === shard) this.#helping = undefined
  }

  /** Holds nothing, as far as can be known; one that fails holds nobody up. */
  #quiet(line: Line, nowMs: number): boolean {
    if (line.retryAt > nowMs || line.emptyAt >= this.#since) return true
    return line.ask !== undefined && line.ask.waitSeconds > 0 && nowMs - line.askedAt >= QUIET_MS
  }

  #line(lane: Lane, shard: number): Line {
    const name = `${lane}-${shard}`
    const line = this.#lines.get(name) ?? { lane, shard, askedAt: 0, emptyAt: Number.NEGATIVE_INFINITY, retryAt: 0 }
    this.#lines.set(name, line)
    return line
  }
}
