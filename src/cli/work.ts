import type { Emit } from '../events.ts'
import type { Signals } from './signals.ts'
import { jsonWorkerLog, plainWorkerLog, type WorkerLog } from './worker-log.ts'

/** Under systemd's TimeoutStopSec of 90 s: what is handed back is built elsewhere at once, what is killed only after a lease. */
const TERM_DRAIN_MS = 80_000

export interface WorkerFlags {
  name?: string | undefined
  slots?: number | undefined
  bakes?: boolean | undefined
  once: boolean
  listen?: string | undefined
  drainSeconds?: number | undefined
}

/** Where a worker's lines go: JSON lines on stderr, or the command's own story. */
export const openWorkerLog = (format: 'json' | 'text', emit: Emit): WorkerLog => {
  if (format === 'json') return jsonWorkerLog((line) => process.stderr.write(line))
  const line: WorkerLog['line'] = (level, text) => emit({ type: 'notice', level: level === 'error' ? 'warning' : level, text })
  return { ...plainWorkerLog(line), line }
}

/** `bake worker`: works until it is stopped; the worker's name and slots. */
export async function workForFleet(flags: WorkerFlags, signals: Signals, log: WorkerLog): Promise<object> {
  const { openProject } = await import('../context/project.ts')
  const { runStandaloneWorker } = await import('../context/standalone-worker.ts')
  const { drainSeconds, ...given } = flags
  let worker: { name: string; slots: number } | undefined
  signals.drain.addEventListener('abort', () =>
    log.line('info', 'finishing what runs, taking nothing new; a second Ctrl-C or SIGTERM hands it back to the queue'),
  )
  await runStandaloneWorker(await openProject(), {
    ...given,
    emit: (event) => event.type === 'notice' && log.line(event.level, event.text),
    drain: signals.drain,
    abort: signals.abort,
    drainMs: () => (drainSeconds === undefined ? usualDrainMs(signals) : drainSeconds * 1000),
    tell: (event) => log.event(event),
    onReady: (ready) => {
      worker = ready
    },
  })
  log.line('info', 'worker drained')
  return { ...worker }
}

/** A person who presses Ctrl-C sees what runs, and can press it again. */
const usualDrainMs = ({ first }: Signals): number | undefined => (first === 'SIGTERM' ? TERM_DRAIN_MS : undefined)
