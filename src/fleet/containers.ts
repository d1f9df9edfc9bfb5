export const LABELS = { project: 'bake.project', stack: 'bake.stack', service: 'bake.service', run: 'bake.run' } as const
/** What the one before is called while its successor has to show that it is well. */
export const BEFORE = '.before'
/** From SIGTERM to SIGKILL. */
export const STOP_SECONDS = 10

/** A container of a stack, as the engine tells of it. */
export interface Container {
  name: string
  labels: Record<string, string>
  /** As it was started with. */
  image: string
  running: boolean
  exitCode: number
  /** Of the image's own HEALTHCHECK, if it has one. */
  health?: string
  /** Milliseconds since the epoch. */
  startedAt: number
  /** In its network; '' when it has none, or doesn't run. */
  address: string
  /** docker-run(1), --restart. */
  restart: string
}

/** The engine of this machine, as far as swapping takes. Names are containers' own. Each throws engine_refused (exit 3) with what the engine says. */
export interface Containers {
  /** With all of these labels, running or not. */
  list(labels: Record<string, string>): Promise<Container[]>
  get(name: string): Promise<Container | undefined>
  /** By digest; nothing is asked of a registry when it is there. */
  pull(image: string): Promise<void>
  /** Arguments of `docker run`. */
  run(args: string[]): Promise<void>
  start(name: string): Promise<void>
  /** SIGTERM, and SIGKILL `seconds` later. */
  stop(name: string, seconds: number): Promise<void>
  rename(from: string, to: string): Promise<void>
  /** Also a running one, with its anonymous volumes. */
  remove(name: string): Promise<void>
  setRestart(name: string, policy: string): Promise<void>
  /** The last lines of its output. */
  logs(name: string, lines: number): Promise<string[]>
  /** Exit code and last line of a command in it. */
  exec(name: string, argv: string[], timeoutMs: number, signal: AbortSignal): Promise<{ code: number; said: string }>
}

/** Health checks ask these from where the stack's ports are published. */
export interface Network {
  /** The status of an http(s) answer; undefined when there is none within `timeoutMs`. Nothing is followed, and no certificate is checked. */
  status(url: string, timeoutMs: number): Promise<number | undefined>
  /** Whether somebody accepts a connection and keeps it. */
  accepts(host: string, port: number, timeoutMs: number): Promise<boolean>
}
