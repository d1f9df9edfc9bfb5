import { type FileHandle, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Nobody sees a line 20 ms late; the end of the writer is noticed at once. */
const POLL_MS = 20
const CHUNK_BYTES = 256 * 1024

/**
 * A file without a name that a child writes and this process reads. In place of a pipe, because buildx must never wait for its reader: BuildKit's client gives
 * up the status stream 3 s after the build's end (client/solve.go), and a build whose log is read slower than that fails with "failed to receive status:
 * … context canceled". It takes disk until it is closed, by whatever end of this process.
 */
export interface Spool extends AsyncDisposable {
  /** For a child's stdio. */
  readonly fd: number
  /** What is written, as it is written, up to what was there when `ended` settled. Each chunk is the reader's own. */
  read(ended: Promise<unknown>): AsyncGenerator<Buffer>
}

/** `dir` is a directory on this machine's disk that no other process uses. */
export async function openSpool(dir: string): Promise<Spool> {
  const path = join(dir, 'progress')
  const file = await open(path, 'w+', 0o600)
  try {
    await unlink(path)
  } catch (error) {
    await file.close()
    throw error
  }
  return { fd: file.fd, read: (ended) => follow(file, ended), [Symbol.asyncDispose]: () => file.close() }
}

async function* follow(file: FileHandle, ended: Promise<unknown>): AsyncGenerator<Buffer> {
  let over = false
  const noted = ended.then(() => {
    over = true
  })
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  for (let position = 0; ; ) {
    // Asked before reading: what was written before the end is found by this read.
    const last = over
    const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, position)
    position += bytesRead
    if (bytesRead > 0) yield Buffer.from(buffer.subarray(0, bytesRead))
    else if (last) return
    else await Promise.race([noted, sleep(POLL_MS)])
  }
}
