import type { Depth, Lane } from '../io/queue.ts'
import { type Backlog, laneOf } from './backlog.ts'
import type { MemberSeen } from './members.ts'
import type { BuildRecord, WorkerDocument } from './records.ts'

/** A fleet as `bake status` shows it; with --json the document, version 1. Times are ms since the epoch. */
export interface FleetStatus {
  project: string
  at: number
  /** Queue and ledger are on AWS; else on this machine. */
  aws: boolean
  /** Whether there is a queue to ask: always on AWS, on one machine while a host process runs. */
  serving: boolean
  workers: WorkerStatus[]
  /** Every queue, with the lanes in the order in which they are served. */
  queues: QueueStatus[]
  /** Jobs in the dead-letter queue; undefined when it wasn't asked. */
  dead?: number
  failures: FailureStatus[]
  /** What could not be looked at, and why. */
  problems: string[]
}

export interface WorkerStatus extends Omit<WorkerDocument, 'version' | 'owner' | 'leaseMs' | 'state'> {
  /** `lost`: it beat lately, and then no more without having said that it ends. */
  state: WorkerDocument['state'] | 'lost'
  busy: number
  /** Seconds since its last heartbeat, by the ledger's clock. */
  beatAge?: number
}

export interface QueueStatus extends Depth {
  /** The job asked for first of those that wait. */
  oldest?: { build: string; image: string; askedAt: number }
}

export interface FailureStatus {
  build: string
  image: string
  commit: string
  branch?: string
  worker?: string
  endedAt: number
  code: string
  message: string
}

/** A worker that was lost longer ago is history. */
const LOST_LATELY_MS = 3600 * 1000
const MAX_FAILURES = 5

export function workersOf(seen: readonly MemberSeen[]): WorkerStatus[] {
  return seen
    .filter(
      ({ alive, document, beatAgeMs }) =>
        alive || (document.state !== 'ended' && beatAgeMs !== undefined && beatAgeMs < LOST_LATELY_MS),
    )
    .map(({ alive, document: { version: _v, owner: _o, leaseMs: _l, ...document }, beatAgeMs }) => ({
      ...document,
      state: alive ? document.state : 'lost',
      running: alive ? document.running : [],
      busy: alive ? Math.min(document.slots, document.running.length) : 0,
      ...(beatAgeMs === undefined ? {} : { beatAge: Math.round(beatAgeMs / 100) / 10 }),
    }))
}

/** `depths` as the queue counts; undefined when it can't be asked: then the records tell what waits. */
export function queuesOf(depths: readonly Depth[] | undefined, { queued }: Backlog): QueueStatus[] {
  const counted = depths ?? countRecords(queued)
  return counted.map((depth) => {
    const waits = queued.find((record) => laneOf(record) === depth.lane && (record.shard ?? 0) === depth.shard)
    // A message that is being handled isn't waiting, whatever its record says yet.
    if (waits === undefined || depth.visible + depth.delayed === 0) return depth
    return { ...depth, oldest: { build: waits.build, image: waits.image, askedAt: waits.askedAt } }
  })
}

function countRecords(queued: readonly BuildRecord[]): Depth[] {
  const lanes: readonly Lane[] = ['high', 'normal']
  return lanes.map((lane) => ({
    lane,
    shard: 0,
    visible: queued.filter((record) => laneOf(record) === lane).length,
    inFlight: 0,
    delayed: 0,
  }))
}

export const failuresOf = ({ failures }: Backlog): FailureStatus[] =>
  failures.slice(0, MAX_FAILURES).map(({ build, image, commit, branch, worker, endedAt = 0, failure }) => ({
    build,
    image,
    commit,
    endedAt,
    code: failure?.code ?? 'unknown',
    message: failure?.message ?? '',
    ...(branch === undefined ? {} : { branch }),
    ...(worker === undefined ? {} : { worker }),
  }))
