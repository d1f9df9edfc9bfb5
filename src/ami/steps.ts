import type { MachineEvent, StoryEvent } from '../events.ts'

/**
 * Machine events as a build's events, for everything that keeps and shows those: each phase is a step, numbered in order of its beginning. A phase that
 * begins again is another step.
 */
export class PhaseSteps {
  readonly #open = new Map<string, number>()
  #next = 0

  of(event: MachineEvent): StoryEvent[] {
    if (event.type === 'note') return [event]
    const { phase, t } = event
    if (event.type === 'line') {
      const began = this.#begin(phase, t)
      return [...began.events, { type: 'line', step: began.step, stream: 1, text: event.text, t }]
    }
    if (event.state === 'started') {
      this.#open.delete(phase)
      return this.#begin(phase, t).events
    }
    const began = this.#begin(phase, t)
    this.#open.delete(phase)
    const { state, seconds } = event
    const ended = { type: 'step', step: began.step, name: phase, state, t, ...(seconds !== undefined && { seconds }) } as const
    return [...began.events, ended]
  }

  /** The running step of a phase; one that nobody began begins here. */
  #begin(phase: string, t: number): { step: number; events: StoryEvent[] } {
    const known = this.#open.get(phase)
    if (known !== undefined) return { step: known, events: [] }
    const step = this.#next++
    this.#open.set(phase, step)
    return { step, events: [{ type: 'step', step, name: phase, state: 'started', t }] }
  }
}

/** What a bake's log tells of its phases, as machine events; undefined for its lines. */
export function phaseOf(event: StoryEvent): MachineEvent | undefined {
  if (event.type === 'note') return event
  if (event.type !== 'step' || event.state === 'cached' || event.state === 'canceled') return undefined
  const { name: phase, state, t, seconds } = event
  return { type: 'phase', phase, state, t, ...(seconds !== undefined && { seconds }) }
}

/**
 * The way back, of a whole log: who follows a bake elsewhere sees what whoever bakes here does. Phases of a run that was cut off have failed when another
 * begins.
 */
export class StepPhases {
  readonly #names = new Map<number, string>()
  readonly #open = new Map<string, number>()

  of(event: StoryEvent): MachineEvent[] {
    if (event.type === 'step') this.#names.set(event.step, event.name)
    if (event.type === 'line') return [{ type: 'line', phase: this.#names.get(event.step) ?? '', text: event.text, t: event.t }]
    if (event.type === 'phase' && event.phase === 'claimed') return [...this.#cutOff(event.t), ...ofJob(event)]
    const told = phaseOf(event)
    if (told === undefined) return ofJob(event)
    if (told.type === 'phase' && told.state === 'started') this.#open.set(told.phase, told.t)
    else if (told.type === 'phase') this.#open.delete(told.phase)
    return [told]
  }

  #cutOff(t: number): MachineEvent[] {
    const open = [...this.#open]
    this.#open.clear()
    return open.map(([phase, began]) => ({ type: 'phase', phase, state: 'failed', t, seconds: Math.max(0, t - began) / 1000 }))
  }
}

/** What becomes of a job is no phase of its bake. */
function ofJob(event: StoryEvent): MachineEvent[] {
  const note = (level: 'info' | 'warning', text: string): MachineEvent[] => [{ type: 'note', level, text, t: event.t }]
  if (event.type === 'retry')
    return note(
      'warning',
      `${event.code}: ${event.message} (tried again in ${event.inSeconds} s, ${event.attempt} of ${event.of})`,
    )
  if (event.type !== 'phase') return []
  if (event.phase === 'claimed') return note('info', `worker ${event.worker} has it`)
  if (event.phase !== 'queued') return []
  return event.detail === undefined ? note('info', 'queued for a worker that bakes') : note('warning', event.detail)
}

/** Runs one phase of a story, and tells of its beginning and its end. */
export async function inPhase<T>(phase: string, tell: (event: MachineEvent) => void, work: () => Promise<T>): Promise<T> {
  const began = performance.now()
  const ended = (state: 'done' | 'failed') =>
    tell({ type: 'phase', phase, state, t: Date.now(), seconds: (performance.now() - began) / 1000 })
  tell({ type: 'phase', phase, state: 'started', t: Date.now() })
  try {
    const result = await work()
    ended('done')
    return result
  } catch (error) {
    ended('failed')
    throw error
  }
}
