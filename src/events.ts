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

/** What a command tells its user on stderr, image by image. */
export type CliEvent =
  | { type: 'notice'; level: 'info' | 'warning'; text: string }
  | { type: 'image'; image: string; build?: string; event: StoryEvent }
  | { type: 'image-done'; image: string; build?: string; outcome: ImageOutcome }

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

export type Emit = (event: CliEvent) => void
