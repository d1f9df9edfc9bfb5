import { stat } from 'node:fs/promises'
import { unavailable } from '../errors.ts'
import { type DockerEndpoint, dockerEndpoint } from './docker-endpoint.ts'
import { type Answer, callEngine } from './docker-http.ts'
import type { Collection, Engine, EngineImage, EngineInfo } from './engine.ts'

/** 404; 400 for what is no reference; 301 for what the engine takes for a path with `..`. */
const NO_SUCH_IMAGE = [404, 400, 301]

/** An engine adds up and deletes some thousand snapshots. */
const CACHE_TIMEOUT_MS = 10 * 60_000

/** The Docker engine of the docker command line's choice. Constructing it touches nothing. */
export class DockerEngine implements Engine {
  readonly #env: NodeJS.ProcessEnv
  #endpoint: Promise<DockerEndpoint> | undefined

  constructor(env: NodeJS.ProcessEnv = process.env) {
    this.#env = env
  }

  async ping(): Promise<void> {
    await this.#call('GET', '/_ping')
  }

  async info(): Promise<EngineInfo> {
    const [{ host }, { body }] = await Promise.all([this.#where(), this.#call('GET', '/info')])
    const info = JSON.parse(body)
    const driver: [string, string][] = info.DriverStatus ?? []
    return {
      version: info.ServerVersion,
      // https://docs.docker.com/engine/storage/containerd/
      containerdStore: driver.some(([key, value]) => key === 'driver-type' && value === 'io.containerd.snapshotter.v1'),
      os: info.OSType,
      architecture: info.Architecture,
      dataRoot: host.startsWith('unix:') ? await existing(info.DockerRootDir) : undefined,
      id: info.ID,
    }
  }

  async image(reference: string): Promise<EngineImage | undefined> {
    const answer = await this.#call('GET', `/images/${inPath(reference)}/json`, NO_SUCH_IMAGE)
    if (NO_SUCH_IMAGE.includes(answer.status)) return undefined
    const image = JSON.parse(answer.body)
    return { id: image.Id, repoDigests: image.RepoDigests ?? [], os: image.Os, architecture: image.Architecture }
  }

  async tag(source: string, repository: string, tag: string): Promise<void> {
    await this.#call('POST', `/images/${inPath(source)}/tag?${new URLSearchParams({ repo: repository, tag })}`)
  }

  async untag(reference: string): Promise<void> {
    await this.#call('DELETE', `/images/${inPath(reference)}`, NO_SUCH_IMAGE)
  }

  async cacheBytes(): Promise<number> {
    return sizeOf(await this.#records())
  }

  async collectCache(keepBytes: number): Promise<Collection> {
    const before = await this.#records()
    // `keep-storage` is what engines before 28 understand, and later ones still do (as reserved-space).
    const query = new URLSearchParams({ all: 'true', 'keep-storage': String(Math.round(keepBytes)) })
    await this.#call('POST', `/build/prune?${query}`, [], CACHE_TIMEOUT_MS)
    const after = await this.#records()
    const left = new Set(after.map(({ ID }) => ID))
    const lost = before.filter(({ ID, Type }) => Type !== 'source.local' && !left.has(ID))
    const uses = lost.map(({ LastUsedAt, CreatedAt }) => Date.parse(LastUsedAt ?? CreatedAt))
    return { leftBytes: sizeOf(after), lostUseMs: uses.length === 0 ? undefined : Math.max(...uses) }
  }

  async #records(): Promise<CacheRecord[]> {
    const { body } = await this.#call('GET', '/system/df?type=build-cache', [], CACHE_TIMEOUT_MS)
    return JSON.parse(body).BuildCache ?? []
  }

  #where(): Promise<DockerEndpoint> {
    this.#endpoint ??= dockerEndpoint(this.#env)
    return this.#endpoint
  }

  /** Throws engine_error (exit 4) for a status of 400 or more that isn't `expected`. */
  async #call(method: 'GET' | 'POST' | 'DELETE', path: string, expected: number[] = [], timeoutMs?: number): Promise<Answer> {
    const endpoint = await this.#where()
    const answer = await callEngine(endpoint, method, path, timeoutMs)
    if (answer.status < 400 || expected.includes(answer.status)) return answer
    throw unavailable(
      'engine_error',
      `the Docker engine answered ${answer.status} to ${method} ${path}: ${messageIn(answer.body)}`,
      {
        next: 'look at the engine’s log (journalctl -u docker)',
        ids: { engine: endpoint.host },
      },
    )
  }
}

/** https://docs.docker.com/reference/api/engine/ (system/df): BuildCache. */
interface CacheRecord {
  ID: string
  Type: string
  Size: number
  /** Also an image's of the engine. */
  Shared: boolean
  LastUsedAt?: string | null
  CreatedAt: string
}

const sizeOf = (records: CacheRecord[]): number => records.reduce((sum, { Size, Shared }) => sum + (Shared ? 0 : Size), 0)

const inPath = (reference: string) => reference.split('/').map(encodeURIComponent).join('/')

/** The engine of a virtual machine (Docker Desktop) names a path that this machine doesn't have. */
async function existing(path: unknown): Promise<string | undefined> {
  if (typeof path !== 'string' || path === '') return undefined
  return (await stat(path).catch(() => undefined))?.isDirectory() ? path : undefined
}

/** Of an answer that is an error. */
export function messageIn(body: string): string {
  try {
    return String(JSON.parse(body).message)
  } catch {
    return body.slice(0, 200)
  }
}
