import { open } from 'node:fs/promises'
import { type BakeError, unavailable } from '../../errors.ts'
import type { HostFiles } from './state-dir.ts'

/** It answers within 0.1 s; an engine that has to start a container on a busy machine needs longer. */
const READY_DEADLINE_MS = 15_000
const PROBE_INTERVAL_MS = 15
const PROBE_TIMEOUT_MS = 1_000
const TAIL_BYTES = 4_096

/** Waits until a registry answers `GET /v2/` on 127.0.0.1:`port`; `ended` settles when it has died instead. Throws registry_failed or disk_full. */
export async function registryReady(port: number, ended: Promise<unknown>, files: HostFiles): Promise<void> {
  let dead = false
  const died = () => {
    dead = true
  }
  ended.then(died, died)
  const deadline = performance.now() + READY_DEADLINE_MS
  while (!(await answers(port))) {
    if (dead) throw await registryFailed('ended at once', files)
    if (performance.now() > deadline) throw await registryFailed(`does not answer on port ${port}`, files)
    await new Promise((resolve) => setTimeout(resolve, PROBE_INTERVAL_MS))
  }
}

/** The registry's failure, with the last lines of its log. */
async function registryFailed(what: string, files: HostFiles): Promise<BakeError> {
  const tail = await tailOf(files.registryLog)
  const ids = { log: files.registryLog }
  if (/no space left on device/i.test(tail))
    return unavailable('disk_full', `the registry has no space left in ${files.registryDir}`, {
      ids,
      next: 'Free some disk space and run the command again.',
    })
  const lines = tail.trim().split('\n').slice(-3).join('\n')
  return unavailable('registry_failed', `the registry of this project ${what}${lines && `:\n${lines}`}`, {
    ids,
    next: `See ${files.registryLog}.`,
  })
}

/** The end of a log; '' when there is none. */
export async function tailOf(path: string, bytes = TAIL_BYTES): Promise<string> {
  const file = await open(path).catch(() => undefined)
  if (file === undefined) return ''
  try {
    const { size } = await file.stat()
    const length = Math.min(size, bytes)
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length)
    return buffer.toString('utf8')
  } finally {
    await file.close()
  }
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    // Not an ESM import: that would load undici as well (see queue-server.ts).
    const { get } = process.getBuiltinModule('node:http')
    const request = get({ host: '127.0.0.1', port, path: '/v2/', agent: false, timeout: PROBE_TIMEOUT_MS }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    request.on('timeout', () => request.destroy())
    request.on('error', () => resolve(false))
  })
