import { refused } from '../errors.ts'

/** NAME_MAX of Linux and macOS file systems, bytes. */
const MAX_COMPONENT = 255
/** S3's limit for a key, bytes (AmazonS3 user guide, "Naming Amazon S3 objects"). */
const MAX_KEY = 1024
/** No leading dot: no `..`, and room for an adapter's own hidden files. */
const COMPONENT = /^[A-Za-z0-9_@:+-][A-Za-z0-9._@:+-]*$/

/** Refuses (`ledger_key`, exit 2) what isn't a ledger key: components of A–Z a–z 0–9 . _ @ : + - with `/` between. */
export function checkKey(key: string): void {
  const problem = problemOf(key)
  if (problem === undefined) return
  throw refused('ledger_key', `${JSON.stringify(key.slice(0, 120))} can't be a ledger key: ${problem}`, {
    next: 'use a shorter or simpler name (branch, image, worker) where this key comes from',
    ids: { key: key.slice(0, 200) },
  })
}

/** The same for the start of a key: '' and a trailing `/` are fine, and its last component may be cut anywhere. */
export function checkPrefix(prefix: string): void {
  const whole = prefix.endsWith('/') ? prefix.slice(0, -1) : prefix
  if (prefix !== '') checkKey(whole)
}

function problemOf(key: string): string | undefined {
  for (const part of key.split('/')) {
    if (!COMPONENT.test(part))
      return `its part ${JSON.stringify(part.slice(0, 80))} is empty, starts with a dot or has characters other than A–Z a–z 0–9 . _ @ : + -`
    if (part.length > MAX_COMPONENT)
      return `its part ${part.slice(0, 40)}… has ${part.length} characters, ${MAX_COMPONENT} at most`
  }
  return key.length > MAX_KEY ? `it has ${key.length} characters, ${MAX_KEY} at most` : undefined
}
