/** Whose failure it is: decides retry (only the world's) and what is printed (a stack only for ours). */
export type ErrorKind = 'user' | 'world' | 'ours'

/** The exit code table of the CLI (docs/design.md §2): every BakeError carries one. */
export const EXIT = { ok: 0, bug: 1, refused: 2, failed: 3, unavailable: 4, timedOut: 5, interrupted: 130 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

export interface ErrorDetails {
  /** What to try next, a sentence or a command. */
  next?: string
  /** The ids involved: image, key, build, digest, path, … */
  ids?: Record<string, string>
  cause?: unknown
}

/** An error that a person can act on. `code` is stable snake_case, for scripts and tests. */
export class BakeError extends Error {
  override readonly name = 'BakeError'
  readonly kind: ErrorKind
  readonly code: string
  readonly exit: ExitCode
  readonly next: string | undefined
  readonly ids: Record<string, string>

  constructor(kind: ErrorKind, exit: ExitCode, code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.kind = kind
    this.exit = exit
    this.code = code
    this.next = details.next
    this.ids = details.ids ?? {}
  }
}

/** Exit 2: what the user wrote can't be taken (flag, bake.yaml, ref, path, unset secret). */
export const refused = (code: string, message: string, details?: ErrorDetails) =>
  new BakeError('user', EXIT.refused, code, message, details)

/** Exit 3: the build, bake or deploy ran and failed for the user's reason. Never retried. */
export const failed = (code: string, message: string, details?: ErrorDetails) =>
  new BakeError('user', EXIT.failed, code, message, details)

/** Exit 4: a tool, service, permission or disk space is missing or out of reach. Retried with backoff by workers. */
export const unavailable = (code: string, message: string, details?: ErrorDetails) =>
  new BakeError('world', EXIT.unavailable, code, message, details)

/** Exit 5: something that should have ended by now has not. */
export const timedOut = (code: string, message: string, details?: ErrorDetails) =>
  new BakeError('world', EXIT.timedOut, code, message, details)

/** The `code` of a Node system error (ENOENT, EEXIST, …), or undefined. */
export const errnoOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
