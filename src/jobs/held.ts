import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Message, Queue } from '../io/queue.ts'

/**
 * A message that this worker has: renewed at a third of its visibility until it is let go. Losing it aborts nothing (docs/design.md §6):
 * it is then delivered again, and whoever gets it finds our claim.
 */
export class Held {
  readonly message: Message
  readonly #queue: Queue
  readonly #journal: Journal
  readonly #timer: NodeJS.Timeout

  constructor(queue: Queue, message: Message, journal: Journal, visibilitySeconds: number, onError: (error: unknown) => void) {
    this.#queue = queue
    this.message = message
    this.#journal = journal
    this.#timer = setInterval(() => queue.renew(message, visibilitySeconds).catch(onError), (visibilitySeconds * 1000) / 3)
  }

  async remove(): Promise<void> {
    this.#stop()
    await this.#queue.remove(this.message)
    await this.#journal.remove(this.message)
  }

  /** Hands it back, to be delivered again in `seconds`. */
  async release(seconds: number): Promise<void> {
    this.#stop()
    await this.#queue.renew(this.message, seconds).catch(() => {})
    await this.#journal.remove(this.message)
  }

  async bury(reason: string): Promise<void> {
    this.#stop()
    await this.#queue.bury(this.message, reason)
    await this.#journal.remove(this.message)
  }

  #stop() {
    clearInterval(this.#timer)
  }
}

/**
 * The receipts of what a worker holds, on its own disk, so that its next incarnation hands back at once what a killed one held
 * instead of waiting for the visibility timeout. Losing it costs that time, nothing else.
 */
export class Journal {
  readonly #dir: string

  constructor(dir: string) {
    this.#dir = dir
  }

  async add(message: Message): Promise<void> {
    await mkdir(this.#dir, { recursive: true })
    await writeFile(this.#file(message), JSON.stringify(message))
  }

  async remove(message: Message): Promise<void> {
    await rm(this.#file(message), { force: true })
  }

  /** Makes what an earlier incarnation held visible again. Call it only under the worker's name lock. */
  async handBack(queue: Queue): Promise<number> {
    const names = await readdir(this.#dir).catch(() => [])
    for (const name of names) {
      const path = join(this.#dir, name)
      try {
        await queue.renew(JSON.parse(await readFile(path, 'utf8')) as Message, 0)
      } catch {
        // Half written, or delivered to somebody else by now: the visibility timeout has it.
      }
      await rm(path, { force: true })
    }
    return names.length
  }

  #file(message: Message) {
    return join(this.#dir, `${message.id.replace(/[^A-Za-z0-9-]/g, '_')}.json`)
  }
}
