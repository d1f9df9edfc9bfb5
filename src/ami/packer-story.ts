import type { MachineEvent } from '../events.ts'
import type { PackerLine } from '../io/packer-lines.ts'

/** Enough of a step's last words to see why it failed, and short enough for one screen. */
const LAST_LINES = 20

/** What Packer says when a part of its own work begins: of its qemu builder, of amazon-ebs. */
const OWN_PHASES: [RegExp, string][] = [
  [/^Starting VM|^Launching a source AWS instance/, 'boot'],
  [/^Connected to SSH!/, 'upload'],
  [/^Gracefully halting|^Stopping the source instance/, 'power-off'],
  [/^Converting hard drive|^Creating AMI/, 'save'],
  [/^Deleting output directory|^Terminating the source AWS instance|^Cleaning up/, 'tidy'],
]

/** The line that each step of ours prints as it begins and ends (templates/provision). */
const MARK = /^bake-phase: ([a-z][a-z-]*) (begin|end)$/

/** What a step of ours gives as a reason begins so (templates/provision/common.sh). */
const REASON = /^bake: (.+)$/

/** What Packer says first when a step failed. */
const STEP_FAILED = /^Provisioning step had errors/

/**
 * Packer's lines as phases with seconds: `packer` until it starts the machine, its own phases as it says them, and ours as their marks tell. Call `end` with
 * how it ended.
 */
export class PackerStory {
  readonly #tell: (event: MachineEvent) => void
  #phase: { name: string; began: number } | undefined
  /** What had failed when Packer began to tidy up. */
  #failed: string | undefined
  #last: string[] = []
  #reasons: string[] = []
  /** Between a step's marks: what comes as an error is what the step says on stderr, and no failure yet. */
  #inStep = false

  constructor(tell: (event: MachineEvent) => void) {
    this.#tell = tell
    this.#begin('packer')
  }

  take(line: PackerLine): void {
    const { text } = line
    const [, name = '', edge] = MARK.exec(text) ?? []
    if (edge !== undefined) {
      this.#inStep = edge === 'begin'
      // Between two steps of ours time is Packer's own.
      this.#begin(edge === 'begin' ? name : 'packer')
      return
    }
    const own = line.type === 'say' ? OWN_PHASES.find(([pattern]) => pattern.test(text))?.[1] : undefined
    if (line.type === 'failed' || (line.type === 'error' && !this.#inStep) || STEP_FAILED.test(text)) this.#fail()
    else if (own !== undefined) this.#begin(own)
    const phase = this.#phase?.name ?? 'packer'
    this.#tell({ type: 'line', phase, text, t: Date.now() })
    if (this.#failed !== undefined) return
    const reason = REASON.exec(text)?.[1]
    // Lines of stderr and stdout come as they like: reasons are kept apart.
    if (reason === undefined) this.#last = [...this.#last, text].slice(-LAST_LINES)
    else this.#reasons.push(reason)
  }

  /** Ends what still runs; the phase that failed, the reasons that it gave, the main one last, and what else it said at the end. */
  end(ok: boolean): { phase: string; reasons: string[]; lines: string[] } {
    const phase = this.#failed ?? this.#phase?.name ?? 'packer'
    this.#end(ok ? 'done' : 'failed')
    return { phase, reasons: this.#reasons, lines: this.#last }
  }

  #fail(): void {
    if (this.#failed !== undefined || this.#phase === undefined) return
    this.#failed = this.#phase.name
    this.#inStep = false
    this.#end('failed')
    this.#begin('tidy')
  }

  #begin(name: string): void {
    if (this.#phase?.name === name) return
    this.#end('done')
    if (this.#failed === undefined) [this.#last, this.#reasons] = [[], []]
    this.#phase = { name, began: performance.now() }
    this.#tell({ type: 'phase', phase: name, state: 'started', t: Date.now() })
  }

  #end(state: 'done' | 'failed'): void {
    if (!this.#phase) return
    const { name, began } = this.#phase
    this.#tell({ type: 'phase', phase: name, state, t: Date.now(), seconds: (performance.now() - began) / 1000 })
    this.#phase = undefined
  }
}
