import type { BuildRecord, WorkerDocument } from './records.ts'

export type WorkerState = WorkerDocument['state']

/** What happens on a worker, told once, for its log, its metrics and its document in the ledger. Times are seconds. */
export type WorkerEvent =
  /** Always the first. */
  | { type: 'named'; worker: string; slots: number }
  | { type: 'state'; state: WorkerState; why?: string }
  | ({ type: 'received'; priority: 'normal' | 'high'; receives: number } & Subject)
  | ({ type: 'waiting'; leader: string } & Subject)
  /** `waited`: from asking to this claim. `takenFrom`: the dead owner of the claim before. */
  | ({ type: 'claimed'; claim: number; waited: number; takenFrom?: string } & Subject)
  | ({ type: 'ended'; status: BuildRecord['status']; seconds: number } & Subject &
      Pick<BuildRecord, 'digest' | 'reference' | 'tag' | 'warmth' | 'failure' | 'supersededBy'>)
  /** The message is on the queue again, to be received in that many seconds. */
  | ({ type: 'handed-back'; inSeconds: number } & Subject)
  | { type: 'warmed'; image: string }
  | { type: 'lease-lost'; owner: string; text: string }
  /** A new incarnation beats. */
  | { type: 'lease'; owner: string }
  | { type: 'queue-error'; text: string }
  | { type: 'problem'; text: string }
  | { type: 'note'; text: string }

interface Subject {
  build: string
  image: string
}

export type TellWorker = (event: WorkerEvent) => void

/** What went wrong on the worker itself, as a sentence; undefined for what belongs to its life. */
export function problemOf(event: WorkerEvent): string | undefined {
  if (event.type === 'queue-error') return `queue: ${event.text}`
  return event.type === 'problem' || event.type === 'lease-lost' ? event.text : undefined
}
