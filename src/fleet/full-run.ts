import { uptime } from 'node:os'
import { unavailable } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { Group } from '../io/autoscaling-groups.ts'
import { Heartbeat, isAlive } from '../jobs/heartbeat.ts'
import { isPassing } from './aws-answers.ts'
import type { DeployWorld } from './deploy-world.ts'
import { type Full, type NewStep, refresh as readOn, type StepOf, tryTake } from './deployments.ts'
import { type FullStep, ORDER } from './full-record.ts'
import { reached, standing, wordsOf } from './full-state.ts'

/** Heirs wait longer than the owner trusts itself: a call that it made at the last moment has ended by then, with all that the SDK tries. */
const HEIRS_WAIT = 2
/** In an outage nobody is to come back to a bake that gave up over a lost connection. */
export const OUT_OF_REACH_MS = 10 * 60_000
/** That nothing has changed is told too. */
const TELL_AGAIN_MS = 60_000

/** Goes on while the machine sleeps, as the ledger's clock does: who wakes up late knows it. */
const sinceBootMs = () => uptime() * 1000

/** Somebody's step came first, such as a wish to have it back: what is next has to be thought of anew. */
export class Turned extends Error {}

/** It can't go on, in the words of whoever says so. */
export class GivenUp extends Error {}
/** There is nothing left to go on or back with. */
export class GroupGone extends GivenUp {}

export interface Waiting {
  /** For people: "waiting for …". */
  what: string
  deadlineMs: number
}

/** A process that takes the steps of a `full` deployment: the only one, until its claim is lost. Ends by leaving the rest to others. */
export class Run implements AsyncDisposable {
  at: Full
  /** AWS has been out of reach for as long as anybody waits. */
  outOfReach = false
  readonly world: DeployWorld
  readonly #owner: string
  readonly #beat: Heartbeat

  private constructor(at: Full, world: DeployWorld, owner: string, beat: Heartbeat) {
    this.at = at
    this.world = world
    this.#owner = owner
    this.#beat = beat
  }

  /**
   * Follows whoever takes the steps, as long as that one lives; then the steps are this process's. `owners`: those that this process was, and isn't any more: nobody waits for
   * their lease. The next one is added. Throws ledger errors.
   */
  static async begin(deployment: Full, world: DeployWorld, owners = new Set<string>()): Promise<{ run: Run } | { ended: Full }> {
    let told = ''
    for (let at = deployment; ; at = await readOn(world.ledger, at)) {
      if (at.ended) return { ended: at }
      const holder = await holderOf(at, world, owners)
      if (!holder) {
        const run = await Run.#claim(at, world, owners)
        if (run) return { run }
        continue
      }
      const text = `${holder.by} takes the steps: ${standing(at)}`
      if (text !== told) world.tell('info', `${at.document.stack}  ${text}`)
      told = text
      await world.sleep(world.pollMs, world.signal).catch((error: unknown) => {
        world.tell('info', `${at.document.stack}  ${holder.by} goes on with it`)
        throw error
      })
    }
  }

  static async #claim(at: Full, world: DeployWorld, owners: Set<string>): Promise<Run | undefined> {
    const { by, leaseMs, process } = world
    const owner = `${at.document.stack}.${crypto.randomUUID()}`
    owners.add(owner)
    const beat = new Heartbeat(world.ledger, owner, { leaseMs, now: sinceBootMs })
    await beat.start()
    const claimed = await tryTake(world.ledger, at, { step: 'claimed', owner, leaseMs: leaseMs * HEIRS_WAIT, process }, by).catch(
      async (error) => {
        await beat.stop()
        throw error
      },
    )
    if (claimed) return new Run(claimed, world, owner, beat)
    await beat.stop()
    return undefined
  }

  get document() {
    return this.at.document
  }

  get full() {
    return this.at.document.full
  }

  /** The new instances, once they are known to be well. */
  get fresh(): string[] {
    return this.at.last('draining')?.instances ?? []
  }

  tell(level: 'info' | 'warning', text: string): void {
    this.world.tell(level, `${this.document.stack}  ${text}`)
  }

  /** To be called before anything is changed: throws lease_lost (exit 4), or that a person wants to stop. */
  check(): void {
    this.#beat.check()
    this.world.signal.throwIfAborted()
  }

  /** What a step gives, unless one that comes later was taken already: recorded first, and done again when nobody knows whether it was done. */
  async step<T>(step: FullStep, act: (run: this) => Promise<T>, entry: NewStep = { step } as NewStep): Promise<T | undefined> {
    const last = reached(this.at)
    const [is, wanted] = [last === undefined ? -1 : ORDER.indexOf(last), ORDER.indexOf(step)]
    if (is > wanted) return undefined
    if (is < wanted) await this.record(entry)
    await failpoint(`full-${step}`)
    this.tell('info', wordsOf(step))
    const done = await act(this)
    await failpoint(`full-${step}-done`)
    return done
  }

  /** Throws Turned when somebody's came first, deployment_taken (exit 4) when that was another process's claim. */
  async record(step: NewStep): Promise<void> {
    this.check()
    const longer = await tryTake(this.world.ledger, this.at, step, this.world.by)
    if (!longer) await this.#fallBehind()
    else this.at = longer
  }

  async #fallBehind(): Promise<never> {
    this.at = await readOn(this.world.ledger, this.at)
    if (this.at.last('claimed')?.owner === this.#owner) throw new Turned()
    throw unavailable(
      'deployment_taken',
      `another bake took over the deployment to ${this.document.stack}: this one was gone for too long`,
      {
        next: 'the same command follows it',
        ids: { stack: this.document.stack, deployment: String(this.at.n) },
      },
    )
  }

  /** The group as it is. Throws GroupGone. */
  async group(): Promise<Group> {
    const group = await this.world.groups.get(this.document.group)
    if (group) return group
    throw new GroupGone(`group ${this.document.group} is gone`)
  }

  /**
   * Looks until `probe` says true; a text is how far it is. That AWS is out of reach is waited for too. Throws GivenUp at the deadline, Turned as soon as
   * somebody else has taken a step, and what `probe` throws.
   */
  async until({ what, deadlineMs }: Waiting, probe: () => Promise<true | string>): Promise<void> {
    const began = performance.now()
    let [told, toldAt, answeredAt] = ['', 0, began]
    for (;;) {
      this.check()
      const seen = await probe().catch((error: unknown) => {
        if (!isPassing(error)) throw error
        this.outOfReach = performance.now() - answeredAt > OUT_OF_REACH_MS
        if (this.outOfReach) throw error
        return error
      })
      if (seen === true) return
      if (typeof seen === 'string') answeredAt = performance.now()
      const text = `waiting for ${what}: ${typeof seen === 'string' ? seen : seen.message}`
      if (performance.now() - began > deadlineMs)
        throw new GivenUp(`gave up ${text}, after ${Math.round(deadlineMs / 60_000)} min`)
      if (text !== told || Date.now() - toldAt >= TELL_AGAIN_MS) {
        this.tell('info', text)
        ;[told, toldAt] = [text, Date.now()]
      }
      await this.world.sleep(this.world.pollMs, this.world.signal)
      const now = await readOn(this.world.ledger, this.at)
      if (now.steps.length > this.at.steps.length) await this.#fallBehind()
    }
  }

  /** The steps are for whoever comes next: who was killed leaves its claim, which is known to be dead on the same machine, or when its lease has run out. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.at.ended) {
      const released = { step: 'released', owner: this.#owner } as const
      await tryTake(this.world.ledger, this.at, released, this.world.by).catch(() => undefined)
    }
    await this.#beat.stop()
  }
}

/** Who takes the steps now and lives. */
async function holderOf(
  at: Full,
  { ledger, hasEnded }: DeployWorld,
  owners: ReadonlySet<string>,
): Promise<StepOf<'claimed'> | undefined> {
  const claim = at.last('claimed')
  if (claim === undefined || owners.has(claim.owner) || at.last('released')?.owner === claim.owner || hasEnded(claim.process))
    return undefined
  return (await isAlive(ledger, claim.owner, claim.leaseMs)) ? claim : undefined
}
