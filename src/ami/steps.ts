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
