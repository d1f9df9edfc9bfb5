import type { MachineEvent } from '../../events.ts'

/** Enough of a step's last words to see why it failed, and short enough for one screen. */
const LAST_LINES = 20
/** The line that each step prints as it begins and ends, and a reason (templates/provision, templates/direct). */
const MARK = /^bake-phase: ([a-z][a-z-]*) (begin|end)$/
const REASON = /^bake: (.+)$/

/** Lines of what changes a disk as phases with seconds. */
export class ChangeStory {
  readonly #tell: (event: MachineEvent) => void
  #phase: { name: string; began: number } | undefined
  #last: string[] = []
  #reasons: string[] = []

  constructor(tell: (event: MachineEvent) => void) {
    this.#tell = tell
  }

  take(text: string): void {
    const [, name = '', edge] = MARK.exec(text) ?? []
    if (edge === 'begin') this.#begin(name)
    else if (edge === 'end') this.#end('done')
    if (edge !== undefined) return
    const phase = this.#phase?.name ?? 'mount'
    this.#tell({ type: 'line', phase, text, t: Date.now() })
    const reason = REASON.exec(text)?.[1]
    // Lines of stderr and stdout come as they like: reasons are kept apart.
    if (reason === undefined) this.#last = [...this.#last, text].slice(-LAST_LINES)
    else this.#reasons.push(reason)
  }

  /** Something went wrong: the phase that failed, the reasons that it gave, the main one last, and what else it said at the end. */
  fail(): { phase: string; reasons: string[]; lines: string[] } {
    const phase = this.#phase?.name ?? 'mount'
    this.#end('failed')
    return { phase, reasons: this.#reasons, lines: this.#last }
  }

  #begin(name: string): void {
    this.#end('done')
    ;[this.#last, this.#reasons] = [[], []]
    this.#phase = { name, began: performance.now() }
    this.#tell({ type: 'phase', phase: name, state: 'started', t: Date.now() })
  }

  #end(state: 'done' | 'failed'): void {
    if (!this.#phase) return
    const { name, began } = this.#phase
    this.#phase = undefined
    this.#tell({ type: 'phase', phase: name, state, t: Date.now(), seconds: (performance.now() - began) / 1000 })
  }
}
