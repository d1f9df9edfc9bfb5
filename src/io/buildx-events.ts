import type { BuildEvent } from '../events.ts'
import { LineJoiner, type LinePart } from './buildx-lines.ts'
import { isInternal, type SolveStatus, type Vertex } from './buildx-status.ts'

/** How many of a failed step's last lines go into the error, and how much of each. */
const TAIL_LINES = 20
const TAIL_LINE_CHARS = 500
/** util/progress/logs of BuildKit appends this to a step's output at BUILDKIT_STEP_LOG_MAX_SIZE or _MAX_SPEED. */
const CLIPPED = /\[output clipped, log limit \S+ reached\]$/

/** Statuses of a FROM step that pulls: `sha256:…` and `extracting sha256:…`. */
const MOVED = /^(?:extracting )?sha256:/

type State = Extract<BuildEvent, { type: 'step' }>['state']

interface Step {
  number: number
  name: string
  internal: boolean
  state: State | undefined
  started: string | undefined
  seconds: number
  joiners: Map<1 | 2, LineJoiner>
  tail: string[]
  /** Layers were fetched or unpacked: a base image's, or those of a step whose result came from a registry's cache. */
  moved: boolean
  wasCached: boolean
}

export interface FailedStep {
  name: string
  internal: boolean
  error: string
  /** Its last lines of output, oldest first. */
  tail: string[]
}

/**
 * Turns BuildKit's statuses into BuildEvents: one event per change of a step's state, logs joined to lines, numbers in order of first sight. A step that
 * BuildKit looks at twice (a base image: resolved, then found cached) may change from done to cached: the last state counts.
 */
export class BuildEvents {
  readonly #steps = new Map<string, Step>()
  #numbers = 0
  #failed: { step: Step; error: string } | undefined
  #cacheFound = false;

  *take(status: SolveStatus): Generator<BuildEvent> {
    for (const vertex of status.vertexes ?? []) yield* this.#begin(vertex)
    for (const { vertex, id } of status.statuses ?? []) {
      if (MOVED.test(id)) this.#step(vertex, '').moved = true
    }
    for (const log of status.logs ?? []) {
      const step = this.#step(log.vertex, '')
      const stream = log.stream === 2 ? 2 : 1
      const joiner = step.joiners.get(stream) ?? new LineJoiner()
      step.joiners.set(stream, joiner)
      yield* this.#lines(step, stream, joiner.add(Buffer.from(log.data ?? '', 'base64')), Date.parse(log.timestamp))
    }
    for (const warning of status.warnings ?? []) {
      const text = Buffer.from(warning.short ?? '', 'base64').toString('utf8')
      if (text) yield { type: 'warning', step: this.#step(warning.vertex, '').number, text, t: Date.now() }
    }
    for (const vertex of status.vertexes ?? []) yield* this.#finish(vertex)
  }

  /**
   * To be taken when the build is over: lines without an end, and steps that nobody will finish. Not before: BuildKit tells of a step's end
   * while packets of a long log are still on their way, and a line cut in two would be told in two.
   */
  *end(): Generator<BuildEvent> {
    const t = Date.now()
    for (const step of this.#steps.values()) {
      yield* this.#flush(step, t)
      if (step.state === 'started') yield this.#change(step, 'canceled', t)
    }
  }

  /** Steps of the Dockerfile that BuildKit looked at, and how many of them it took from a cache. */
  get steps(): { total: number; cached: number } {
    const counted = [...this.#steps.values()].filter((step) => !step.internal && step.state !== undefined)
    return { total: counted.length, cached: counted.filter(isCached).length }
  }

  /** A cache in a registry was there to be read. */
  get cacheFound(): boolean {
    return this.#cacheFound
  }

  /** The step whose error failed the build. Its tail is whole once `end` was taken. */
  get failed(): FailedStep | undefined {
    if (this.#failed === undefined) return undefined
    const { step, error } = this.#failed
    return { name: step.name, internal: step.internal, error, tail: step.tail }
  }

  *#begin(vertex: Vertex): Generator<BuildEvent> {
    if (vertex.started === undefined) return
    const step = this.#step(vertex.digest, vertex.name)
    const again = step.state !== 'started' && !vertex.cached && vertex.completed === undefined && vertex.started !== step.started
    step.started = vertex.started
    if (step.state === undefined || again) yield this.#change(step, 'started', Date.parse(vertex.started))
  }

  *#finish(vertex: Vertex): Generator<BuildEvent> {
    if (vertex.completed === undefined && !vertex.cached) return
    if (vertex.name.startsWith('importing cache manifest') && !vertex.error) this.#cacheFound = true
    const step = this.#step(vertex.digest, vertex.name)
    const t = Date.parse(vertex.completed ?? vertex.started ?? '') || Date.now()
    const state = isUnmovedBase(step) && stateOf(vertex) === 'done' ? 'cached' : stateOf(vertex)
    if (state === step.state) return
    if (vertex.started !== undefined && vertex.completed !== undefined) step.seconds += (t - Date.parse(vertex.started)) / 1000
    yield this.#change(step, state, t)
    if (vertex.error && state === 'failed' && !isCacheWork(vertex.name)) {
      this.#failed = { step, error: vertex.error }
    }
    const warning = cacheWarning(vertex)
    if (warning) yield { type: 'warning', step: step.number, text: warning, t }
  }

  #change(step: Step, state: State, t: number): BuildEvent {
    step.state = state
    step.wasCached ||= state === 'cached'
    const seconds = state === 'started' || state === 'cached' ? {} : { seconds: Math.max(0, step.seconds) }
    return {
      type: 'step',
      step: step.number,
      name: step.name,
      state,
      t,
      ...seconds,
      ...(step.internal ? { internal: true } : {}),
    }
  }

  *#lines(step: Step, stream: 1 | 2, lines: LinePart[], t: number): Generator<BuildEvent> {
    if (lines.length > 0)
      step.tail = [...step.tail, ...lines.slice(-TAIL_LINES).map(({ text }) => text.slice(0, TAIL_LINE_CHARS))].slice(-TAIL_LINES)
    for (const { text, more } of lines) {
      const clip = text.endsWith(' reached]') ? CLIPPED.exec(text) : null
      // Two literals: millions of lines go through here.
      if (clip === null && more) yield { type: 'line', step: step.number, stream, text, t, more }
      else if (clip === null) yield { type: 'line', step: step.number, stream, text, t }
      else {
        if (clip.index > 0) yield { type: 'line', step: step.number, stream, text: text.slice(0, clip.index), t }
        yield { type: 'clipped', step: step.number, t }
      }
    }
  }

  *#flush(step: Step, t: number): Generator<BuildEvent> {
    for (const [stream, joiner] of step.joiners) yield* this.#lines(step, stream, joiner.end(), t)
  }

  #step(digest: string, name: string): Step {
    let step = this.#steps.get(digest)
    if (!step) {
      const internal = name === '' || isInternal(name)
      step = {
        number: this.#numbers++,
        name,
        internal,
        state: undefined,
        started: undefined,
        seconds: 0,
        joiners: new Map(),
        tail: [],
        moved: false,
        wasCached: false,
      }
      this.#steps.set(digest, step)
    } else if (step.name === '' && name !== '') {
      // A log line came before its step was introduced.
      step.name = name
      step.internal = isInternal(name)
    }
    return step
  }
}

/** A step of a registry's cache is found cached, and starts again when a later one needs its files: they are pulled, nothing is run. */
const isCached = ({ state, wasCached, moved }: Step) => state === 'cached' || (state === 'done' && wasCached && moved)

/** BuildKit says `cached` of a base image only when a step that isn't cached needs it; one that is only looked up is as good as cached. */
const isUnmovedBase = (step: Step) => !step.moved && /^\[[^\]]*\] FROM /.test(step.name)

/** As BuildKit's own progress display decides (util/progress/progressui): an error that ends in "context canceled" is a cancellation. */
function stateOf(vertex: Vertex): State {
  if (vertex.cached) return 'cached'
  if (!vertex.error || isMissingCache(vertex)) return 'done'
  return vertex.error.endsWith('context canceled') ? 'canceled' : 'failed'
}

const isCacheWork = (name: string) => /^(?:importing cache manifest|exporting cache|preparing build cache)/.test(name)

/** The first build of a branch finds no cache: nothing to tell. */
const isMissingCache = (vertex: Vertex) =>
  vertex.name.startsWith('importing cache manifest') && vertex.error !== undefined && /: not found$/.test(vertex.error)

/** Caches never fail a build (`ignore-error=true`), so what went wrong with one has to be said here. */
function cacheWarning(vertex: Vertex): string | undefined {
  if (!vertex.error || stateOf(vertex) !== 'failed' || !isCacheWork(vertex.name)) return undefined
  const what = vertex.name.startsWith('importing')
    ? vertex.name.replace('importing cache manifest from', 'no cache read from')
    : 'build cache not written'
  return `${what}: ${vertex.error}`
}
