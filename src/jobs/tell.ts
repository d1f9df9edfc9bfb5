import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { NotifyDefinition } from '../config.ts'
import { BakeError, messageOf } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { Ledger } from '../io/ledger.ts'
import { BUILD_ID_PATTERN, keys } from '../names.ts'
import { isAlive } from './heartbeat.ts'
import type { Tools, Verdict } from './loop.ts'
import { type Notice, noticeOf, wants } from './notify.ts'
import { type SlackMessage, slackMessage } from './notify-slack.ts'
import { type BuildRecord, ENDED, read, readBuild } from './records.ts'

/** One end of something, in each of the ways that it is told. */
export interface Told {
  notice: Notice
  slack: SlackMessage
  /** What a FIFO queue keeps in order. */
  group: string
}

/** One entry of `notify:`, ready to be used. */
export interface Hook {
  definition: NotifyDefinition
  /** For people, without anything secret. */
  name: string
  /** One try, bounded in time. Throws the world's errors for what another try may mend, other errors for what it can't. */
  send(told: Told, signal: AbortSignal): Promise<void>
}

export interface TellWorld {
  ledger: Ledger
  hooks: readonly Hook[]
  leaseMs: number
  /** This incarnation of the worker, as its beats name it. */
  owner(): string
  onProblem(text: string): void
  /** Between two tries of one hook, ms. */
  pausesMs?: readonly number[]
}

/** With 5 s for each of four tries, a hook that never answers takes 33 s, and no slot meanwhile. */
const PAUSES_MS = [1_000, 3_000, 9_000]
/** Somebody else is telling it: look again when that one is done or dead. */
const LATER_SECONDS = 5
/** A ledger that fails is asked again this often; then the message goes without anybody having been told. */
const MAX_RECEIVES = 8

/** `notices/<build>` */
const noticeSchema = z.object({
  version: z.literal(1),
  build: z.string().regex(BUILD_ID_PATTERN),
  owner: z.string(),
  leaseMs: z.number(),
  at: z.number(),
  done: z.boolean(),
})
type NoticeDocument = z.infer<typeof noticeSchema>

/**
 * Tells of builds that have ended, between the record's end and the message's: whoever asked has the result already, and a worker that is killed meanwhile
 * leaves the message, whose next reader finds the record ended and the notice not done. So every end is told at least once, and twice only when a worker
 * dies between sending and noting it. What can't be told after a few tries is reported and given up. Never throws.
 */
export class Teller {
  readonly #world: TellWorld
  readonly #underWay = new Set<string>()

  constructor(world: TellWorld) {
    this.#world = world
  }

  /** What becomes of the message of `build` instead of `verdict`, which its handler has just reached. */
  async after(verdict: Verdict, build: string, tools: Tools): Promise<Verdict> {
    if (verdict.do === 'release' || this.#world.hooks.length === 0) return verdict
    if (this.#underWay.has(build)) return later(verdict, LATER_SECONDS)
    this.#underWay.add(build)
    try {
      return await this.#tell(verdict, build, tools)
    } catch (error) {
      this.#world.onProblem(`notify: build ${build}: ${messageOf(error)}`)
      return tools.receives < MAX_RECEIVES ? later(verdict, LATER_SECONDS) : verdict
    } finally {
      this.#underWay.delete(build)
    }
  }

  async #tell(verdict: Verdict, build: string, tools: Tools): Promise<Verdict> {
    const { ledger } = this.#world
    const record = await readBuild(ledger, build)
    if (!record || !ENDED.has(record.status)) return verdict
    const hooks = this.#world.hooks.filter(({ definition }) => wants(definition, record))
    if (hooks.length === 0) return verdict
    const mine = await this.#take(build)
    if (mine === 'done') return verdict
    if (mine === 'busy') return later(verdict, LATER_SECONDS)
    // Telling may take a while, and a build needs the slot. Where too many wait already, another delivery tells; of what is to be buried there is none.
    if (!tools.place.wait() && verdict.do !== 'bury') return later(verdict, LATER_SECONDS)
    await failpoint('telling')
    const told = await Promise.all(hooks.map((hook) => this.#send(hook, record, tools)))
    if (told.includes('stopped')) return later(verdict, 0)
    await failpoint('told')
    await ledger.put(keys.notice(build), { ...mine, done: true })
    return verdict
  }

  /** One teller at a time: whoever creates the document, or finds the one who did dead. */
  async #take(build: string): Promise<NoticeDocument | 'done' | 'busy'> {
    const { ledger, leaseMs } = this.#world
    const mine: NoticeDocument = { version: 1, build, owner: this.#world.owner(), leaseMs, at: Date.now(), done: false }
    if (await ledger.create(keys.notice(build), mine)) return mine
    const theirs = await read(ledger, keys.notice(build), noticeSchema)
    if (theirs?.done) return 'done'
    if (theirs && theirs.owner !== mine.owner && (await isAlive(ledger, theirs.owner, theirs.leaseMs))) return 'busy'
    await ledger.put(keys.notice(build), mine)
    return mine
  }

  /** A worker that is leaving tries once more and leaves the rest to another; one that is killed off stops at once. */
  async #send(hook: Hook, record: BuildRecord, { drain, abort }: Tools): Promise<'told' | 'stopped' | 'given up'> {
    const pauses = this.#world.pausesMs ?? PAUSES_MS
    const told = { notice: noticeOf(record), slack: slackMessage(record), group: record.image }
    for (let tries = 1; ; tries++) {
      try {
        await hook.send(told, abort)
        return 'told'
      } catch (error) {
        if (abort.aborted || (drain.aborted && isWorlds(error))) return 'stopped'
        if (!isWorlds(error) || tries > pauses.length) {
          this.#world.onProblem(
            `${hook.name} was not told of build ${record.build} (${record.status}) in ${tries} ${tries === 1 ? 'try' : 'tries'}: ${messageOf(error)}`,
          )
          return 'given up'
        }
        const pauseMs = pauses[tries - 1]! * (0.75 + Math.random() / 2)
        await sleep(pauseMs, undefined, { signal: AbortSignal.any([drain, abort]) }).catch(() => {})
        if (drain.aborted || abort.aborted) return 'stopped'
      }
    }
  }
}

const isWorlds = (error: unknown): boolean => error instanceof BakeError && error.kind === 'world'

/** What goes to the dead letters does so at once: another delivery would find the record ended and only remove it. */
const later = (verdict: Verdict, inSeconds: number): Verdict => (verdict.do === 'bury' ? verdict : { do: 'release', inSeconds })
