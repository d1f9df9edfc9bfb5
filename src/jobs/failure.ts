import { BakeError } from '../errors.ts'
import type { Failure } from './records.ts'

/** An error as records and claims keep it: of one that isn't bake's own, all of it. */
export function failureOf(error: unknown): Failure {
  if (error instanceof BakeError) {
    return {
      kind: error.kind,
      code: error.code,
      message: error.message,
      exit: error.exit,
      ...(error.next === undefined ? {} : { next: error.next }),
    }
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return {
    kind: 'ours',
    code: 'bug',
    message: text,
    exit: 1,
    next: 'this is a bug in bake: please report it with the text above',
  }
}
