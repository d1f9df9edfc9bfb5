import type { Failure } from '../jobs/records.ts'
import { problemOf, type WorkerEvent } from '../jobs/worker-events.ts'
import { duration } from './format.ts'
import type { ErrorReport } from './report.ts'

export type Level = 'info' | 'warning' | 'error'

/** Where a worker's lines go: as they are, or each as a JSON object for a log collector. */
export interface WorkerLog {
  event(event: WorkerEvent): void
  line(level: Level, text: string): void
  /** What ended the process; missing where the command prints it. */
  fatal?(report: ErrorReport): void
}

/** One JSON object a line, of one version: `time` (ISO 8601), `level`, `worker`, `message`, and what the event says of itself. */
export function jsonWorkerLog(write: (line: string) => void, now: () => Date = () => new Date()): WorkerLog {
  const lines = eventLines()
  let worker: string | undefined
  const put = (level: Level, message: string, more: object = {}) =>
    write(`${JSON.stringify({ time: now().toISOString(), level, worker, message, ...more })}\n`)
  return {
    event(event) {
      if (event.type === 'named') worker = event.worker
      const { type, text: _, failure, ...facts } = event as WorkerEvent & { text?: string; failure?: Failure }
      // Its message, with the failed step's last lines, is the build's log's.
      const why = failure && { code: failure.code, kind: failure.kind, exit: failure.exit, next: failure.next }
      put(levelOf(event), lines(event), { event: type, ...facts, ...(why && { failure: why }) })
    },
    line: put,
    fatal: ({ code, message, next, ids }) => put('error', message, { event: 'fatal', code, next, ids }),
  }
}

/** Lines for people: a job's begin with its image and build. */
export function plainWorkerLog(write: (level: Level, text: string) => void): Pick<WorkerLog, 'event'> {
  const lines = eventLines()
  return {
    event(event) {
      const subject = 'build' in event ? `${event.image} ${event.build.slice(0, 9)}  ` : ''
      write(levelOf(event), `${subject}${lines(event)}`)
    },
  }
}

function levelOf(event: WorkerEvent): Level {
  if (event.type === 'ended' && event.status === 'failed') return event.failure?.kind === 'user' ? 'info' : 'warning'
  return problemOf(event) === undefined ? 'info' : 'warning'
}

/** Events as sentences without image and build. The worker's own are told with its name. */
function eventLines(): (event: WorkerEvent) => string {
  let [name, count] = ['worker', '']
  return (event) => {
    if (event.type === 'named')
      [name, count] = [`worker ${event.worker}`, `: ${event.slots} ${event.slots === 1 ? 'slot' : 'slots'}`]
    if (event.type === 'named') return `${name} starts${count}`
    if (event.type === 'lease') return `${name} beats as ${event.owner}`
    if (event.type !== 'state') return eventLine(event)
    if (event.state === 'ready') return `${name} is ready${count}`
    return `${name} ${event.state === 'ended' ? 'ended' : `is ${event.state}`}${event.why === undefined ? '' : `: ${event.why}`}`
  }
}

function eventLine(event: Exclude<WorkerEvent, { type: 'named' | 'lease' | 'state' }>): string {
  switch (event.type) {
    case 'received':
      return `received${event.priority === 'high' ? ', high priority' : ''}${event.receives > 1 ? `, delivery ${event.receives}` : ''}`
    case 'waiting':
      return `waits for build ${event.leader.slice(0, 9)} with the same inputs`
    case 'claimed':
      return `claimed ${duration(event.waited)} after it was asked for${event.takenFrom === undefined ? '' : `, taken over from ${event.takenFrom}, which is dead`}`
    case 'ended':
      return endLine(event)
    case 'handed-back':
      return event.inSeconds === 0 ? 'handed back to the queue' : `handed back to the queue for ${event.inSeconds} s`
    case 'warmed':
      return `warmed for ${event.image}`
    case 'lease-lost':
    case 'problem':
    case 'note':
      return event.text
    case 'queue-error':
      return `queue: ${event.text}`
  }
}

function endLine({
  status,
  seconds,
  digest,
  reference,
  warmth,
  failure,
  supersededBy,
}: Extract<WorkerEvent, { type: 'ended' }>): string {
  const took = duration(seconds)
  if (reference !== undefined) return `${status === 'built' ? 'baked' : 'found'} in ${took}: ${reference}`
  if (status === 'built') return `built in ${took}${warmth === undefined ? '' : ` (${warmth})`}: ${digest?.slice(0, 19) ?? ''}`
  if (status === 'tagged') return `unchanged, tagged in ${took}: ${digest?.slice(0, 19) ?? ''}`
  if (status === 'failed') return `failed after ${took}: ${failure?.code}: ${failure?.message.split('\n', 1)[0]}`
  return status === 'superseded' ? `gave way to build ${supersededBy?.slice(0, 9) ?? ''}` : `${status} after ${took}`
}
