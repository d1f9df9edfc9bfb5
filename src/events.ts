/** What one BuildKit build tells while it runs. Steps are numbered from 0 in order of first sight. Times are ms since the epoch. */
export type BuildEvent =
  | {
      type: 'step'
      step: number
      name: string
      state: 'started' | 'cached' | 'done' | 'failed' | 'canceled'
      t: number
      seconds?: number
      internal?: boolean
    }
  /** `more`: the line was too long and goes on in the next event of this step and stream. */
  | { type: 'line'; step: number; stream: 1 | 2; text: string; t: number; more?: true }
  | { type: 'clipped'; step: number; t: number }
  | { type: 'warning'; step: number; text: string; t: number }

/** The story of one image, kept in its log and followed by every asker. */
export type StoryEvent =
  | BuildEvent
  | {
      type: 'phase'
      phase: 'queued' | 'waiting' | 'claimed' | 'fetching' | 'building' | 'publishing' | 'tagging'
      t: number
      worker?: string
      detail?: string
    }
  | { type: 'retry'; t: number; code: string; message: string; attempt: number; of: number; inSeconds: number }
  | { type: 'note'; t: number; level: 'info' | 'warning'; text: string }

/** What one step of a machine image's making told while it ran. Times are ms since the epoch. */
export type MachineEvent =
  | { type: 'phase'; phase: string; state: 'started' | 'done' | 'failed'; t: number; seconds?: number }
  /** A line of Packer's, a script's or the console's. */
  | { type: 'line'; phase: string; text: string; t: number }
  | { type: 'note'; level: 'info' | 'warning'; text: string; t: number }

/** What a command tells its user on stderr: image by image, and of the one machine image that it is about. */
export type CliEvent =
  | { type: 'notice'; level: 'info' | 'warning'; text: string }
  | { type: 'image'; image: string; build?: string; event: StoryEvent }
  | { type: 'image-done'; image: string; build?: string; outcome: ImageOutcome }
  /** `machine`: which one, where a release has several; the first one has no name. */
  | { type: 'machine'; machine?: string; build?: string; event: MachineEvent }
  | { type: 'machine-done'; machine?: string; build?: string; outcome: MachineOutcome }

export interface ImageOutcome {
  status: 'current' | 'tagged' | 'built' | 'failed' | 'cancelled' | 'superseded'
  /** The build of the newer commit that took this one's place. */
  supersededBy?: string
  /** `<repository>@sha256:<hex>`; absent on failure. */
  reference?: string
  digest?: string
  tag?: string
  sizeBytes?: number
  pushedBytes?: number
  seconds: number
  steps?: { total: number; cached: number }
  error?: { code: string; message: string; next?: string; exit: number }
}

export interface MachineOutcome {
  /** `found`: it had been baked and proven before. `proven`: it had been baked, only the proof was missing. */
  status: 'found' | 'baked' | 'proven' | 'failed'
  /** AMI id, or the disk's absolute path; absent on failure. */
  reference?: string
  sizeBytes?: number
  seconds: number
  error?: { code: string; message: string; next?: string; exit: number }
}

export type Emit = (event: CliEvent) => void
