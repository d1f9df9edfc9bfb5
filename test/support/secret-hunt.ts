import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'

/** Every form of `secret` that a build may print it in; whoever has one of them has the secret. */
export function formsOf(secret: string): string[] {
  const lines = secret.split('\n').filter((line) => line.length >= 8)
  const base64 = [secret, secret.trimEnd(), `${secret.trimEnd()}\n`].map((text) => Buffer.from(text).toString('base64'))
  // base64(1) breaks lines at 76 columns.
  const wrapped = base64.flatMap((text) => text.match(/.{76}/g) ?? [])
  const bare = base64.map((text) => text.replace(/=+$/, '').slice(0, -1))
  return [...new Set([...lines, ...wrapped, ...bare, Buffer.from(secret.trimEnd()).toString('hex')])]
}

const found = (text: Buffer | string, forms: string[]) => forms.filter((form) => text.includes(form))

/** `name: form` for each form that a text holds. */
export const inTexts = (texts: Record<string, string>, forms: string[]): string[] =>
  Object.entries(texts).flatMap(([name, text]) => found(text, forms).map((form) => `${name}: ${form}`))

/** Larger blobs are layers of the base image. */
const UNPACKED_BYTES = 1024 * 1024

/** The same for every file below a directory, small gzipped ones also unpacked. */
export async function inFiles(dir: string, forms: string[]): Promise<string[]> {
  const hits: string[] = []
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const bytes = await readFile(path).catch(() => Buffer.alloc(0))
    const gzipped = bytes.length < UNPACKED_BYTES && bytes[0] === 0x1f && bytes[1] === 0x8b
    for (const form of [...found(bytes, forms), ...(gzipped ? found(gunzipSync(bytes), forms) : [])])
      hits.push(`${path}: ${form}`)
  }
  return hits
}

export interface Watch extends AsyncDisposable {
  /** What was found so far, and how many different command lines of buildx were looked at. */
  stop(): Promise<{ hits: string[]; buildx: number }>
}

/** Looks at the arguments of every process of this machine, and at the environment of buildx, again and again. */
export function watchProcesses(forms: string[]): Watch {
  const over = new AbortController()
  const hits = new Set<string>()
  const buildx = new Set<string>()
  const look = async (pid: string) => {
    const command = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')
    for (const form of found(command, forms)) hits.add(`argv of ${command.replaceAll('\0', ' ').slice(0, 200)}: ${form}`)
    if (!/docker-buildx\0build\0/.test(command)) return
    buildx.add(command)
    const environment = await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '')
    for (const form of found(environment, forms)) hits.add(`environment of buildx: ${form}`)
  }
  const looking = (async () => {
    while (!over.signal.aborted) {
      const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
      await Promise.all(pids.map(look))
      await sleep(20)
    }
  })()
  const stop = async () => {
    over.abort()
    await looking
    return { hits: [...hits], buildx: buildx.size }
  }
  return { stop, [Symbol.asyncDispose]: async () => void (await stop()) }
}
