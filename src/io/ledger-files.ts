import { type Dir, opendirSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setImmediate as breathe } from 'node:timers/promises'
import { BakeError, errnoOf, messageOf, unavailable } from '../errors.ts'

/** Directory entries between two turns of the event loop: about 5 ms. */
const ENTRIES_PER_TURN = 8_192
/** Entries per getdents call. Measured on 100,000: 66 ms; fs.readdir 120 ms, because it sorts them all first. */
const ENTRIES_PER_READ = 1_024
/** Names held before the first selection; more than most directories have. */
const FIRST_SELECTION = 4_096

/** Writes a file that must not exist yet. `durable`: its bytes are on the disk when this returns. */
export async function writeNew(path: string, bytes: string | Uint8Array, durable: boolean): Promise<void> {
  await using file = await open(path, 'wx')
  await file.writeFile(bytes)
  if (durable) await file.sync()
}

/** Makes the names in `directory` durable, and its own when `made` (the topmost directory that mkdir made) says it is new. */
export async function syncNames(directory: string, made: string | undefined): Promise<void> {
  const last = made === undefined ? directory : dirname(made)
  for (let at = directory; ; at = dirname(at)) {
    await using handle = await open(at, 'r')
    await handle.sync().catch((error) => {
      // Some FUSE file systems can't sync a directory; they decide by themselves when a name lasts.
      if (errnoOf(error) !== 'EINVAL') throw error
    })
    if (at === last || at === dirname(at)) return
  }
}

/**
 * Names in `directory`, ascending by code unit, directories with a `/` at their end; hidden ones left out; [] when there is no such directory. Only
 * those that start with `start`, and whose key (`at` + name) is after `after` or, for a directory, may hold keys that are. What sorts behind the first
 * `files` files is left out, so that a page of 100,000 entries costs reading the directory, not sorting it; nothing is stat'ed.
 */
export async function smallestNames(
  directory: string,
  wanted: { at: string; start: string; after: string; files: number },
): Promise<string[]> {
  let names: string[] = []
  let last: string | undefined
  let selectAt = FIRST_SELECTION
  const select = () => {
    names = firstFiles(names.sort(), wanted.files)
    if (names.length < selectAt / 2) last = names.at(-1)
    else selectAt *= 2
  }
  let seen = 0
  using entries = openOrUndefined(directory)
  for (let entry = entries?.readSync(); entry; entry = entries?.readSync()) {
    if (++seen % ENTRIES_PER_TURN === 0) await breathe()
    const name = entry.isDirectory() ? `${entry.name}/` : entry.name
    if (name.startsWith('.') || !name.startsWith(wanted.start) || (last !== undefined && name > last)) continue
    const key = wanted.at + name
    if (key <= wanted.after && !(entry.isDirectory() && wanted.after.startsWith(key))) continue
    names.push(name)
    if (names.length >= selectAt) select()
  }
  select()
  return names
}

/** Sorted names up to the `files`-th file; the directories between stay, because they may be empty. */
function firstFiles(sorted: string[], files: number): string[] {
  let count = 0
  const end = sorted.findIndex((name) => !name.endsWith('/') && ++count >= files)
  return end === -1 ? sorted : sorted.slice(0, end + 1)
}

function openOrUndefined(directory: string): Dir | undefined {
  try {
    return opendirSync(directory, { bufferSize: ENTRIES_PER_READ })
  } catch (error) {
    if (missing(error)) return undefined
    throw error
  }
}

export const missing = (error: unknown) => errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR'

const FULL = new Set(['ENOSPC', 'EDQUOT'])
const DENIED = new Set(['EACCES', 'EPERM', 'EROFS'])
const BROKEN = new Set(['EIO', 'ESTALE', 'ENOTDIR', 'EEXIST', 'EISDIR', 'ENOENT', 'EMFILE', 'ENFILE', 'ETIMEDOUT', 'EHOSTDOWN'])

/** A system error at `path` as the world's failure with a next step (exit 4); what isn't one stays as it is. */
export function asLedgerError(error: unknown, path: string): unknown {
  if (error instanceof BakeError) return error
  const errno = errnoOf(error) ?? ''
  const details = { cause: error, ids: { path } }
  if (FULL.has(errno))
    return unavailable('disk_full', `no space left for the ledger at ${path}`, {
      ...details,
      next: `free space on the file system of ${dirname(path)} (df -h) and run the command again`,
    })
  if (DENIED.has(errno))
    return unavailable('ledger_denied', `no permission for the ledger at ${path} (${errno})`, {
      ...details,
      next: `make ${dirname(path)} readable and writable for uid ${process.getuid?.() ?? ''}, or run bake as the user who owns it`,
    })
  if (BROKEN.has(errno))
    return unavailable('ledger_unreachable', `the ledger can't be used at ${path}: ${messageOf(error)}`, {
      ...details,
      next: `check what ${path} and the directories above it are (ls -ld)`,
    })
  return error
}
