import { Agent, request as httpRequest } from 'node:http'
import { request as httpsRequest, Agent as TlsAgent } from 'node:https'
import { connect } from 'node:net'
import { z } from 'zod'
import { BakeError, failed } from '../errors.ts'
import { DockerEngine, messageIn } from './docker.ts'
import { dockerEndpoint } from './docker-endpoint.ts'
import { type Answer, callEngine } from './docker-http.ts'
import { tool } from './tool.ts'

/** A backend that docker's proxy can't reach is told by its closing the connection again. */
const KEPT_MS = 150

/** An engine under load takes its time, and one that hangs is told. */
const TIMEOUT_MS = 60_000

/** Of containers/json: https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerList */
const listed = z.array(z.object({ Id: z.string() }))
/** https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerInspect */
const inspected = z.object({
  Name: z.string(),
  Config: z.object({ Image: z.string(), Labels: z.record(z.string(), z.string()).nullable() }),
  State: z.object({
    Running: z.boolean(),
    ExitCode: z.number(),
    StartedAt: z.string(),
    Health: z.object({ Status: z.string() }).nullish(),
  }),
  NetworkSettings: z.object({ Networks: z.record(z.string(), z.object({ IPAddress: z.string().nullish() })).nullish() }),
  HostConfig: z.object({ RestartPolicy: z.object({ Name: z.string() }) }),
})

/**
 * Containers of the docker command line's engine: by its API, where one call takes a few milliseconds and the command line fifty, except for what only the
 * command line knows (`docker run`, logins). Each call throws tool_missing or engine_unreachable (exit 4), or engine_refused (exit 3).
 */
export class DockerContainers {
  readonly #engine = new DockerEngine()
  readonly #endpoint = dockerEndpoint(process.env)

  constructor() {
    // Told by the first call.
    this.#endpoint.catch(() => {})
  }

  async list(labels: Record<string, string>) {
    const label = Object.entries(labels).map(([name, value]) => `${name}=${value}`)
    const query = new URLSearchParams({ all: 'true', filters: JSON.stringify({ label }) })
    const { body } = await this.#api('GET', `/containers/json?${query}`)
    const found = await Promise.all(listed.parse(JSON.parse(body)).map(({ Id }) => this.get(Id)))
    return found.filter((each) => each !== undefined)
  }

  async get(name: string) {
    const { status, body } = await this.#api('GET', `${pathOf(name)}/json`, [404])
    if (status === 404) return undefined
    const { Name, Config, State, NetworkSettings, HostConfig } = inspected.parse(JSON.parse(body))
    return {
      name: Name.replace(/^\//, ''),
      labels: Config.Labels ?? {},
      image: Config.Image,
      running: State.Running,
      exitCode: State.ExitCode,
      ...(State.Health && { health: State.Health.Status }),
      startedAt: Date.parse(State.StartedAt),
      address: Object.values(NetworkSettings.Networks ?? {}).flatMap(({ IPAddress }) => IPAddress || [])[0] ?? '',
      restart: HostConfig.RestartPolicy.Name || 'no',
    }
  }

  async pull(image: string): Promise<void> {
    if ((await this.#engine.image(image)) === undefined) await this.#docker(['pull', '--quiet', image])
  }

  async run(args: string[]): Promise<void> {
    await this.#docker(['run', ...args])
  }

  async start(name: string): Promise<void> {
    await this.#api('POST', `${pathOf(name)}/start`, [304])
  }

  async stop(name: string, seconds: number): Promise<void> {
    await this.#api('POST', `${pathOf(name)}/stop?t=${seconds}`, [304], TIMEOUT_MS + seconds * 1000)
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#api('POST', `${pathOf(from)}/rename?${new URLSearchParams({ name: to })}`)
  }

  async remove(name: string): Promise<void> {
    await this.#api('DELETE', `${pathOf(name)}?force=true&v=true`, [404])
  }

  async setRestart(name: string, policy: string): Promise<void> {
    await this.#docker(['update', `--restart=${policy}`, name])
  }

  async logs(name: string, lines: number): Promise<string[]> {
    const said = await tool('sh', ['-c', 'exec docker logs --tail "$2" "$1" 2>&1', 'sh', name, String(lines)])
    return said.split('\n').filter(Boolean)
  }

  async exec(name: string, argv: string[], timeoutMs: number, stop: AbortSignal): Promise<{ code: number; said: string }> {
    const signal = AbortSignal.any([AbortSignal.timeout(timeoutMs), stop])
    try {
      await tool('docker', ['exec', name, ...argv], { signal })
      return { code: 0, said: '' }
    } catch (error) {
      stop.throwIfAborted()
      if (signal.aborted) return { code: 124, said: `no end within ${timeoutMs / 1000} s` }
      if (error instanceof BakeError && error.code === 'tool_failed')
        return { code: 1, said: error.message.split('\n').at(-1) ?? '' }
      throw error
    }
  }

  /** A status of 400 or more that isn't `expected` is the engine's refusal. */
  async #api(method: 'GET' | 'POST' | 'DELETE', path: string, expected: number[] = [], timeoutMs = TIMEOUT_MS): Promise<Answer> {
    const answer = await callEngine(await this.#endpoint, method, path, timeoutMs)
    if (answer.status < 400 || expected.includes(answer.status)) return answer
    throw refusedBy(`${method} ${path.split('?', 1)[0]}`, messageIn(answer.body))
  }

  /** A swap that is stopped undoes itself: only waiting is cut short by the signal, no call of the engine. */
  async #docker(args: string[]): Promise<string> {
    try {
      return await tool('docker', args)
    } catch (error) {
      if (!(error instanceof BakeError && error.code === 'tool_failed')) throw error
      const said = error.message.replace(/^[\s\S]*?Error response from daemon: /, '').split("\nSee 'docker")[0]
      throw refusedBy(`docker ${args[0]}`, said ?? '', error)
    }
  }
}

const refusedBy = (what: string, said: string, cause?: unknown): BakeError =>
  failed('engine_refused', `${what}: ${said}`, { next: 'bake doctor', ...(cause !== undefined && { cause }) })

const pathOf = (name: string): string => `/containers/${encodeURIComponent(name)}`

/** What health checks ask, from this machine. */
export const localNetwork = {
  status: (url: string, timeoutMs: number): Promise<number | undefined> =>
    new Promise((resolve) => {
      const tls = url.startsWith('https:')
      const options = {
        timeout: timeoutMs,
        agent: tls ? new TlsAgent({ rejectUnauthorized: false }) : new Agent(),
        headers: { 'user-agent': 'bake' },
      }
      const asking = (tls ? httpsRequest : httpRequest)(url, options, (answer) => {
        answer.resume()
        resolve(answer.statusCode)
      })
      asking.on('timeout', () => asking.destroy())
      asking.on('error', () => resolve(undefined))
      asking.on('close', () => resolve(undefined))
      asking.end()
    }),
  accepts: (host: string, port: number, timeoutMs: number): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = connect({ host, port, timeout: timeoutMs })
      const end = (well: boolean) => {
        resolve(well)
        socket.destroy()
      }
      socket.on('connect', () => setTimeout(() => end(true), KEPT_MS))
      socket.on('data', () => end(true))
      for (const event of ['end', 'close', 'error', 'timeout'] as const) socket.on(event, () => end(false))
    }),
}
