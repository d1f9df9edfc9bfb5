import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { waitFor } from '../../src/wait.ts'

export interface LoggedRequest {
  method: string
  /** Path and query as sent. */
  path: string
  status: number
}

export interface TestRegistry extends AsyncDisposable {
  /** `localhost:<port>`: an engine takes it as insecure without configuration. */
  readonly host: string
  /** The directory that holds its data. */
  readonly root: string
  readonly pid: number
  /** What its access log tells so far, oldest first, after a moment for the log to arrive. */
  requests(): Promise<LoggedRequest[]>
  /** Forgets the requests so far. */
  clearRequests(): Promise<void>
  deleteManifest(repository: string, digest: string): Promise<void>
  /** Ends it (SIGKILL); its data stay until it is disposed of. */
  stop(): Promise<void>
}

export interface TestRegistryOptions {
  /** 0 (a free one) unless told. */
  port?: number
  /** A directory to keep; a throw-away one unless told. */
  root?: string
  /** Asks for the user `bake` with the password `s3cret`. */
  auth?: boolean
}

/** bcrypt of `s3cret`. */
const HTPASSWD = 'bake:$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n'

/** Starts Debian's docker-registry (2.8) on loopback. It dies with this process, whatever signal that gets. */
export async function startRegistry(options: TestRegistryOptions = {}): Promise<TestRegistry> {
  const home = await mkdtemp(join(tmpdir(), 'bake-registry-'))
  const root = options.root ?? join(home, 'data')
  const config = {
    version: '0.1',
    log: { level: 'info', formatter: 'json', accesslog: { disabled: false } },
    storage: {
      filesystem: { rootdirectory: root },
      delete: { enabled: true },
      maintenance: { uploadpurging: { enabled: false } },
    },
    http: { addr: `127.0.0.1:${options.port ?? 0}`, secret: 'test' },
    ...(options.auth ? { auth: { htpasswd: { realm: 'test', path: join(home, 'htpasswd') } } } : {}),
  }
  await writeFile(join(home, 'config.yml'), JSON.stringify(config))
  await writeFile(join(home, 'htpasswd'), HTPASSWD)
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'docker-registry', 'serve', join(home, 'config.yml')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  const dispose = async () => {
    await stop()
    await rm(home, { recursive: true, force: true })
  }
  const port = await waitFor(
    () => {
      if (child.exitCode !== null) throw new Error(`docker-registry ended: ${output}`)
      return /listening on 127\.0\.0\.1:(\d+)/.exec(output)?.[1]
    },
    { what: 'docker-registry', deadlineMs: 15_000, intervalMs: 20 },
  ).catch(async (error) => {
    await dispose()
    throw error
  })
  const host = `localhost:${port}`

  let marks = 0
  let forgotten = 0
  const all = async (): Promise<LoggedRequest[]> => {
    // The log is written after the answer: a request of our own tells that everything before it has arrived.
    const mark = `/v2/?mark=${++marks}`
    await fetch(`http://127.0.0.1:${port}${mark}`)
    await waitFor(() => output.includes(mark) || undefined, { what: 'access log', deadlineMs: 5000, intervalMs: 5 })
    return [...output.matchAll(/"([A-Z]+) (\S+) HTTP\/1\.\d" (\d{3}) /g)]
      .map(([, method, path, status]) => ({ method: method!, path: path!, status: Number(status) }))
      .filter(({ path }) => !path.startsWith('/v2/?mark='))
  }
  return {
    host,
    root,
    pid: child.pid!,
    requests: async () => (await all()).slice(forgotten),
    clearRequests: async () => {
      forgotten = (await all()).length
    },
    deleteManifest: async (repository, digest) => {
      const headers = options.auth ? { authorization: `Basic ${btoa('bake:s3cret')}` } : undefined
      const answer = await fetch(`http://127.0.0.1:${port}/v2/${repository}/manifests/${digest}`, { method: 'DELETE', headers })
      if (!answer.ok) throw new Error(`DELETE ${repository}@${digest}: HTTP ${answer.status}`)
    },
    stop,
    [Symbol.asyncDispose]: dispose,
  }
}
