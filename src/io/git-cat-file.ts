import type { ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'
import { unavailable } from '../errors.ts'
import { type GitOptions, gitMissing, spawnGit } from './git-run.ts'

export interface GitObject {
  oid: string
  type: string
  bytes: Buffer
}

interface Waiting {
  resolve(object: GitObject | undefined): void
  reject(error: unknown): void
}

/** One `git cat-file --batch` process (git-cat-file(1), "Batch output"), started at the first question; it answers in order. It never keeps this process alive. */
export class CatFile implements AsyncDisposable {
  readonly #args: string[]
  readonly #options: GitOptions
  #child: ChildProcess | undefined
  #waiting: Waiting[] = []
  #chunks: Buffer[] = []
  #held = 0
  /** Bytes that the answer in progress needs before it is worth looking at. */
  #needed = 1
  #stderr = ''
  #closing: ChildProcess | undefined

  constructor(args: string[], options: GitOptions) {
    this.#args = args
    this.#options = options
  }

  /** The object that `name` stands for: an id or a full ref, with `^{commit}` or `^{tree}` if wanted; undefined when there is none such. */
  get(name: string): Promise<GitObject | undefined> {
    if (/[\s\0]/.test(name)) throw new Error(`not an object name: ${JSON.stringify(name)}`)
    const child = this.start()
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#hold(true)
      child.stdin?.write(`${name}\n`)
    })
  }

  /** Starts the process ahead of the first question. */
  start(): ChildProcess {
    if (this.#child !== undefined) return this.#child
    const child = spawnGit([...this.#args, 'cat-file', '--batch'], this.#options, ['pipe', 'pipe', 'pipe'])
    this.#child = child
    this.#stderr = ''
    child.stdout?.on('data', (chunk: Buffer) => this.#take(chunk))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-4096)
    })
    // A write to a process that has just died: its end is reported by `close`.
    child.stdin?.on('error', () => {})
    child.on('error', (error) => this.#end(child, gitMissing(error)))
    child.on('close', () => this.#end(child))
    child.unref()
    for (const stream of [child.stdin, child.stderr]) (stream as Socket | null)?.unref()
    this.#hold(false)
    return child
  }

  /** Ends the process; questions still open are rejected. It can be asked again. */
  async close(): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    // One that has just ended holds nothing any more, but its streams have yet to be read to their end.
    this.#closing = child
    child.ref()
    for (const stream of [child.stdout, child.stderr]) (stream as Socket | null)?.ref()
    const closed = new Promise((resolve) => child.once('close', resolve))
    child.stdin?.end()
    child.stdout?.resume()
    await closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** An answer that is waited for keeps the process alive, and so does an end; an idle git doesn't. */
  #hold(yes: boolean): void {
    if (this.#closing === this.#child) return
    const stdout = this.#child?.stdout as Socket | null | undefined
    if (yes) stdout?.ref()
    else stdout?.unref()
  }

  #end(child: ChildProcess, error?: unknown): void {
    if (this.#child !== child) return
    const waiting = this.#waiting
    this.#child = undefined
    this.#waiting = []
    this.#chunks = []
    this.#held = 0
    this.#needed = 1
    const why = this.#stderr.trim().split('\n').at(-1) ?? ''
    for (const { reject } of waiting)
      reject(error ?? unavailable('git_failed', `git cat-file ended early${why && `: ${why}`}`, { next: 'git fsck' }))
  }

  #take(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#held += chunk.length
    while (this.#held >= this.#needed) if (!this.#answer()) return
  }

  /** Takes one answer out of what has arrived; false when it isn't all here yet. */
  #answer(): boolean {
    const held = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks)
    this.#chunks = [held]
    const lineEnd = held.indexOf(10)
    if (lineEnd < 0) return false
    const [oid = '', type = '', size] = held.toString('utf8', 0, lineEnd).split(' ')
    // `<name> missing` and `<name> ambiguous` have no size.
    const bodyEnd = size === undefined ? lineEnd : lineEnd + 1 + Number(size)
    if (held.length < bodyEnd + 1) {
      this.#needed = bodyEnd + 1
      return false
    }
    const rest = held.subarray(bodyEnd + 1)
    this.#chunks = rest.length > 0 ? [rest] : []
    this.#held = rest.length
    this.#needed = 1
    const waiting = this.#waiting.shift()
    if (this.#waiting.length === 0) this.#hold(false)
    // A copy: the answer may outlive a much larger chunk.
    waiting?.resolve(size === undefined ? undefined : { oid, type, bytes: Buffer.from(held.subarray(lineEnd + 1, bodyEnd)) })
    return true
  }
}
