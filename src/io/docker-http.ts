import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, messageOf, unavailable } from '../errors.ts'
import type { DockerEndpoint } from './docker-endpoint.ts'

/** An engine under load answers /info within seconds; one that hangs never does. */
const TIMEOUT_MS = 15_000

export interface Answer {
  status: number
  body: string
}

/**
 * One call of the Docker Engine API (https://docs.docker.com/reference/api/engine/), without a version in the path: the engine's own. Answers whatever the
 * status is. Throws engine_unreachable or engine_denied (exit 4). `timeoutMs`: of the whole call.
 * Plain node:http for the unix socket: measured on this design's machine, importing dockerode costs 190–350 ms and node:http 45–60 ms (it is there anyway),
 * and every `bake image` with a local base asks the engine. dockerode takes the other endpoints (tcp with TLS, ssh), which are rare.
 */
export async function callEngine(
  endpoint: DockerEndpoint,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  timeoutMs = TIMEOUT_MS,
): Promise<Answer> {
  try {
    return await (endpoint.host.startsWith('unix://') ? overSocket : overDockerode)(endpoint, method, path, timeoutMs)
  } catch (error) {
    throw unreachable(endpoint, error)
  }
}

function overSocket({ host }: DockerEndpoint, method: string, path: string, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs)
    // An import of node:http would load undici too.
    const { request } = process.getBuiltinModule('node:http')
    // No agent: a kept connection would keep the process too.
    const call = request({
      socketPath: host.slice('unix://'.length),
      method,
      path,
      agent: false,
      headers: { host: 'docker' },
      signal,
    })
    call.once('error', reject)
    call.once('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.once('error', reject)
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }))
    })
    call.end()
  })
}

async function overDockerode(endpoint: DockerEndpoint, method: string, path: string, timeoutMs: number): Promise<Answer> {
  const { default: Docker } = await import('dockerode')
  const url = new URL(endpoint.host)
  const secure = endpoint.certificates !== undefined
  const pem = (name: string) => readFile(join(endpoint.certificates ?? '', name))
  const docker = new Docker({
    host: url.hostname,
    port: url.port || (url.protocol === 'ssh:' ? 22 : secure ? 2376 : 2375),
    protocol: url.protocol === 'ssh:' ? 'ssh' : secure ? 'https' : 'http',
    ...(url.username ? { username: url.username } : {}),
    ...(secure ? { ca: await pem('ca.pem'), cert: await pem('cert.pem'), key: await pem('key.pem') } : {}),
    timeout: timeoutMs,
  })
  return new Promise((resolve, reject) => {
    // docker-modem drops the last character of a path that has a query and no options.
    const dial = {
      path: path.includes('?') ? `${path}&` : path,
      method,
      statusCodes: { 200: true, 201: true, 204: true },
      options: {},
    }
    docker.modem.dial(dial, (error: unknown, body: unknown) => {
      const status =
        error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number' ? error.statusCode : undefined
      if (error && status === undefined) reject(error)
      else if (error) resolve({ status: status!, body: JSON.stringify({ message: messageOf(error) }) })
      else
        resolve({
          status: 200,
          body: typeof body === 'string' ? body : Buffer.isBuffer(body) ? body.toString('utf8') : JSON.stringify(body ?? ''),
        })
    })
  })
}

function unreachable({ host }: DockerEndpoint, cause: unknown) {
  const errno = errnoOf(cause)
  if (errno === 'EACCES' || errno === 'EPERM') {
    return unavailable('engine_denied', `no permission to use the Docker engine at ${host}`, {
      next: 'sudo usermod -aG docker "$USER", then log in anew; bake doctor checks it',
      ids: { engine: host },
      cause,
    })
  }
  return unavailable('engine_unreachable', `no Docker engine answers at ${host}: ${messageOf(cause)}`, {
    next: 'start it (sudo systemctl start docker, or Docker Desktop), or install it with bin/setup; bake doctor checks it',
    ids: { engine: host },
    cause,
  })
}
