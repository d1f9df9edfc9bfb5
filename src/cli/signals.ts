import { BakeError, type ErrorDetails, EXIT } from '../errors.ts'

/** Exit 130: the person stopped it, or left it running (docs/design.md §10). */
export const interrupted = (message: string, details?: ErrorDetails) =>
  new BakeError('user', EXIT.interrupted, 'interrupted', message, details)

export interface Signals {
  /** The first SIGINT or SIGTERM: finish what runs, or detach from it. Its reason is an `interrupted` BakeError. */
  readonly drain: AbortSignal
  /** The second: stop what runs, children included. Aborted only after `drain`. */
  readonly abort: AbortSignal
  /** The signal that came first. */
  readonly first: NodeJS.Signals | undefined
  /** Gives the signals back their default effect. */
  dispose(): void
}

/**
 * Takes over SIGINT and SIGTERM: first drains, second aborts, third ends the process with 130 there and then, because whoever
 * presses Ctrl-C three times wants out.
 */
export function installSignals(): Signals {
  const steps = [new AbortController(), new AbortController()] as const
  let received = 0
  let first: NodeJS.Signals | undefined
  const onSignal = (name: NodeJS.Signals): void => {
    first ??= name
    const step = steps[received++]
    if (step === undefined) process.exit(EXIT.interrupted)
    step.abort(interrupted(`stopped by ${name}`))
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  const dispose = () => {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
  return {
    drain: steps[0].signal,
    abort: steps[1].signal,
    get first() {
      return first
    },
    dispose,
  }
}
