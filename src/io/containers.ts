import { Agent, request as httpRequest } from 'node:http'
import { request as httpsRequest, Agent as TlsAgent } from 'node:https'
import { connect } from 'node:net'
import { z } from 'zod'
import { BakeError, failed } from '../errors.ts'
import { tool } from './tool.ts'

/** A backend that docker's proxy can't reach is told by its closing the connection again. */
const KEPT_MS = 150

/** Of `docker container inspect`: https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerInspect */
const inspected = z.array(
  z.object({
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
  }),
)

/** Containers of the docker command line's engine. Each call throws tool_missing (exit 4) or engine_refused (exit 3). */
export class DockerContainers {
  async list(labels: Record<string, string>) {
    const filters = Object.entries(labels).map(([name, value]) => `--filter=label=${name}=${value}`)
    const ids = (await this.#docker(['container', 'ls', '--all', '--quiet', '--no-trunc', ...filters]))
      .split('\n')
      .filter(Boolean)
    return ids.length === 0 ? [] : this.#inspect(ids)
  }

  async get(name: string) {
    try {
      return (await this.#inspect([name]))[0]
    } catch (error) {
      if (error instanceof BakeError && /no such container/i.test(error.message)) return undefined
      throw error
    }
  }

  async pull(image: string): Promise<void> {
    const there = await this.#docker(['image', 'inspect', '--format', '{{.Id}}', image]).catch(() => undefined)
    if (there === undefined) await this.#docker(['pull', '--quiet', image])
  }

  async run(args: string[]): Promise<void> {
    await this.#docker(['run', ...args])
  }

  async start(name: string): Promise<void> {
    await this.#docker(['start', name])
  }

  async stop(name: string, seconds: number): Promise<void> {
    await this.#docker(['stop', '--time', String(seconds), name])
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#docker(['rename', from, to])
  }

  async remove(name: string): Promise<void> {
    await this.#docker(['rm', '--force', '--volumes', name])
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

  async #inspect(names: string[]) {
    const all = inspected.parse(JSON.parse(await this.#docker(['container', 'inspect', ...names])))
    return all.map(({ Name, Config, State, NetworkSettings, HostConfig }) => ({
      name: Name.replace(/^\//, ''),
      labels: Config.Labels ?? {},
      image: Config.Image,
      running: State.Running,
      exitCode: State.ExitCode,
      ...(State.Health && { health: State.Health.Status }),
      startedAt: Date.parse(State.StartedAt),
      address: Object.values(NetworkSettings.Networks ?? {}).flatMap(({ IPAddress }) => IPAddress || [])[0] ?? '',
      restart: HostConfig.RestartPolicy.Name || 'no',
    }))
  }

  /** A swap that is stopped undoes itself: only waiting is cut short by the signal, no call of the engine. */
  async #docker(args: string[]): Promise<string> {
    try {
      return await tool('docker', args)
    } catch (error) {
      if (!(error instanceof BakeError && error.code === 'tool_failed')) throw error
      const said = error.message.replace(/^[\s\S]*?Error response from daemon: /, '').split("\nSee 'docker")[0]
      throw failed('engine_refused', `docker ${args[0]}: ${said}`, { next: 'bake doctor', cause: error })
    }
  }
}

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
