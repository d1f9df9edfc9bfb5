import { refused } from '../errors.ts'

/** SQS counts body and attributes together, 256 KiB where a queue isn't set to more; 1 KiB of it is kept for what `bury` adds. */
export const MAX_BODY_BYTES = 255 * 1024

/** A JSON text as a message body. Throws `message_too_large` (refused) over MAX_BODY_BYTES. */
export function messageBody(json: string): string {
  const body = escapeForSqs(json)
  const bytes = Buffer.byteLength(body)
  if (bytes <= MAX_BODY_BYTES) return body
  throw refused('message_too_large', `a job of ${bytes} bytes does not fit into a queue message (${MAX_BODY_BYTES} bytes)`, {
    next: 'Make build args and contexts in bake.yaml smaller; large values belong into files.',
  })
}

/** JSON's own escapes for what SQS refuses (U+FFFE, U+FFFF, lone surrogates) and for the pairs that the emulator refuses as well: the same JSON value. */
const escapeForSqs = (json: string): string =>
  json.replace(/[\ud800-\udfff\ufffe\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16)}`)
