import { open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

/** Soon enough for a person who watches. */
const EVERY_MS = 50
const CHUNK_BYTES = 65_536

/**
 * Reads what another process appends to a file, from its beginning. `end` reads what is left and stops. The file is made when it isn't there yet.
 */
export async function followFile(path: string, onData: (data: Uint8Array) => void): Promise<{ end(): Promise<void> }> {
  const file = await open(path, 'a+', 0o600)
  const over = new AbortController()
  let at = 0
  const readOn = async (): Promise<void> => {
    const buffer = Buffer.alloc(CHUNK_BYTES)
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at)
      if (bytesRead === 0) return
      at += bytesRead
      onData(Buffer.from(buffer.subarray(0, bytesRead)))
    }
  }
  const following = (async () => {
    while (!over.signal.aborted) {
      await readOn()
      await sleep(EVERY_MS, undefined, { signal: over.signal }).catch(() => {})
    }
    await readOn()
    await file.close()
  })()
  return {
    async end() {
      over.abort()
      await following
    },
  }
}
