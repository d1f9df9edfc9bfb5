import { randomBytes } from 'node:crypto'
import { link, mkdir, readdir, readFile, rename, stat, unlink, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errnoOf, unavailable } from '../errors.ts'
import { entry } from '../names.ts'
import type { Ledger } from './ledger.ts'
import { asLedgerError, missing, smallestNames, syncNames, writeNew } from './ledger-files.ts'
import { checkKey, checkPrefix } from './ledger-key.ts'

/** A component can't start with a dot, so nothing in here is ever a key. */
const TEMP = '.tmp'
/** No write takes an hour; a writer that was paused that long writes its temp file again. */
const STALE_TEMP_MS = 3_600_000
/** A beat further in the future than timestamps of one file system differ: its clock was set back. */
const CLOCK_JITTER_MS = 1_000

/**
 * How much must outlive a power cut. `decision`: the file and its name (claims: a lost one is published twice). `document`: the bytes are whole, but the
 * version before may be back. `stream`: nothing (log chunks, beats), readers survive damage. Measured on ext4 with 500 bytes: 1.4, 1.0 and 0.7 ms.
 */
type Durability = 'decision' | 'document' | 'stream'

/**
 * The ledger of one machine: key `a/b` is the file `<root>/a/b`, written as a temp file that is then linked (`create`, exclusive) or renamed (`put`) into
 * place, so that no reader ever sees half a document. A key can't also be another key's prefix directory (`a` and `a/b`).
 * Errors: `ledger_key` (refused), `ledger_damaged`, `ledger_denied`, `ledger_gone`, `ledger_unreachable`, `disk_full` (exit 4).
 */
export class DirectoryLedger implements Ledger {
  readonly #root: string
  #opened: Promise<void> | undefined
  #wasThere = false

  /** `root` is made with the first write; nothing is touched before. */
  constructor(root: string) {
    this.#root = root
  }

  async create(key: string, document: object): Promise<boolean> {
    return this.#place(key, JSON.stringify(document), 'decision', async (temp, path) => {
      try {
        await link(temp, path)
        return true
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error
        // On NFS the answer to a link that was made can be lost and the repeat says EEXIST: link(2), BUGS.
        return (await stat(temp)).nlink === 2
      }
    })
  }

  async put(key: string, document: object): Promise<void> {
    await this.#place(key, JSON.stringify(document), 'document', rename)
  }

  async get(key: string): Promise<unknown> {
    const bytes = await this.#read(key)
    if (bytes === undefined) return undefined
    try {
      const value: unknown = JSON.parse(bytes.toString('utf8'))
      if (typeof value === 'object' && value !== null) return value
    } catch {}
    const path = join(this.#root, key)
    throw unavailable(
      'ledger_damaged',
      `ledger document ${key} is damaged: ${path} (${bytes.length} bytes) is not a JSON object`,
      {
        next: `move ${path} out of the ledger (keep it as evidence) and run the command again`,
        ids: { document: key, path },
      },
    )
  }

  async append(prefix: string, n: number, bytes: Uint8Array): Promise<void> {
    await this.#place(`${prefix}/${entry(n)}`, bytes, 'stream', rename)
  }

  async chunk(prefix: string, n: number): Promise<Uint8Array | undefined> {
    return this.#read(`${prefix}/${entry(n)}`)
  }

  async touch(key: string): Promise<void> {
    await this.#place(key, '{}', 'stream', rename)
  }

  async age(key: string): Promise<number | undefined> {
    const path = this.#path(key)
    try {
      const beat = (await stat(path)).mtimeMs
      const now = await this.#now()
      if (beat - now <= CLOCK_JITTER_MS) return Math.max(0, now - beat)
      // The clock was set back. Count from this first sight: a live owner beats again soon, a dead one still expires.
      await utimes(path, now / 1000, now / 1000).catch(() => {})
      return 0
    } catch (error) {
      if (missing(error)) return undefined
      throw asLedgerError(error, path)
    }
  }

  async list(prefix: string, options: { after?: string; limit?: number } = {}): Promise<string[]> {
    checkPrefix(prefix)
    const cut = prefix.lastIndexOf('/') + 1
    const found: string[] = []
    try {
      await this.#walk(prefix.slice(0, cut), prefix.slice(cut), { after: '', limit: Number.POSITIVE_INFINITY, ...options }, found)
    } catch (error) {
      throw asLedgerError(error, join(this.#root, prefix))
    }
    return found
  }

  /** Adds the keys below the directory `at` (ends in `/`, or '') whose next component starts with `start`. */
  async #walk(at: string, start: string, range: { after: string; limit: number }, found: string[]): Promise<void> {
    const wanted = range.limit - found.length
    for (const name of await smallestNames(join(this.#root, at), { at, start, after: range.after, files: wanted })) {
      if (found.length >= range.limit) return
      if (name.endsWith('/')) await this.#walk(at + name, '', range, found)
      else found.push(at + name)
    }
  }

  #path(key: string): string {
    checkKey(key)
    return join(this.#root, key)
  }

  async #read(key: string): Promise<Buffer | undefined> {
    const path = this.#path(key)
    try {
      return await readFile(path)
    } catch (error) {
      if (missing(error)) return undefined
      throw asLedgerError(error, path)
    }
  }

  /** Writes a temp file and lets `move` put it into place. The temp file is gone afterwards, whatever happened. */
  async #place<T>(
    key: string,
    bytes: string | Uint8Array,
    durability: Durability,
    move: (temp: string, path: string) => Promise<T>,
  ): Promise<T> {
    const path = this.#path(key)
    try {
      for (let attempt = 1; ; attempt++) {
        this.#opened ??= this.#open()
        await this.#opened
        const temp = this.#temp()
        try {
          // First: where the ledger is gone this fails, and nothing makes it anew.
          await writeNew(temp, bytes, durability !== 'stream')
          const made = await mkdir(dirname(path), { recursive: true })
          const result = await move(temp, path)
          if (durability === 'decision') await syncNames(dirname(path), made)
          return result
        } catch (error) {
          // Somebody removed a directory, or swept the temp file of a process that was paused for an hour.
          if (errnoOf(error) !== 'ENOENT' || attempt === 3) throw error
          this.#opened = undefined
        } finally {
          await unlink(temp).catch(() => {})
        }
      }
    } catch (error) {
      throw asLedgerError(error, path)
    }
  }

  /** Makes the temp directory and removes what killed writers left there. A ledger that was deleted meanwhile stays so: half of one would be worse. */
  async #open(): Promise<void> {
    try {
      if (this.#wasThere && !(await stat(this.#root).catch(() => undefined)))
        throw unavailable('ledger_gone', `the ledger ${this.#root} was deleted while it was in use`, {
          next: 'run the command again: it begins a new one',
          ids: { path: this.#root },
        })
      this.#wasThere = true
      await mkdir(join(this.#root, TEMP), { recursive: true })
      const left = await readdir(join(this.#root, TEMP))
      if (left.length === 0) return
      const now = await this.#now()
      for (const name of left) {
        const temp = join(this.#root, TEMP, name)
        const { mtimeMs } = await stat(temp).catch(() => ({ mtimeMs: now }))
        if (now - mtimeMs > STALE_TEMP_MS) await unlink(temp).catch(() => {})
      }
    } catch (error) {
      this.#opened = undefined
      throw error
    }
  }

  /** Ms since the epoch by the file system's clock, which isn't this process's when the ledger is mounted from elsewhere. */
  async #now(): Promise<number> {
    const temp = this.#temp()
    await mkdir(dirname(temp), { recursive: true })
    try {
      await writeNew(temp, '{}', false)
      return (await stat(temp)).mtimeMs
    } finally {
      await unlink(temp).catch(() => {})
    }
  }

  #temp(): string {
    return join(this.#root, TEMP, `${process.pid}-${randomBytes(8).toString('hex')}`)
  }
}
