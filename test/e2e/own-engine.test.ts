import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { DockerEngine } from '../../src/io/docker.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import { openWorkshop } from '../io/support/building.ts'
import { startEngine } from '../support/engine.ts'
import { startForwarder } from '../support/forwarder.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { writeFiles } from '../support/repo.ts'
import { tinyRoot } from '../support/tiny-root.ts'

const run = promisify(execFile)
const isRoot = process.platform === 'linux' && process.getuid?.() === 0

/** The host engine's bridge as the kernel has it; without a container on it Node's networkInterfaces leaves it out. */
async function bridge(): Promise<{ index: number; mac: string; address: string }> {
  const { stdout } = await run('ip', ['-json', '-4', 'address', 'show', 'docker0'])
  const [link] = JSON.parse(stdout) as { ifindex: number; addr_info: { local: string }[] }[]
  const { stdout: details } = await run('ip', ['-json', 'link', 'show', 'docker0'])
  const [{ address: mac }] = JSON.parse(details) as [{ address: string }]
  return { index: link!.ifindex, mac, address: link!.addr_info[0]!.local }
}

/** A RUN of the host's engine that asks this process for a word over the bridge. */
async function runWithNetwork(registry: TestRegistry): Promise<string> {
  const server = createServer((_, response) => response.end('over the bridge'))
  const { address } = await bridge()
  await new Promise<void>((resolve) => server.listen(0, address, resolve))
  try {
    const { port } = server.address() as { port: number }
    await using workshop = await openWorkshop()
    const dockerfile = `FROM scratch\nCOPY root /\nRUN curl -sS http://${address}:${port}/\n`
    const request = await workshop.request(dockerfile, { noCache: true, push: [`${registry.host}/run:1`] })
    await writeFiles(request.contextDir, await tinyRoot('root', ['curl']))
    const { error, lines } = await workshop.build(request)
    if (error) throw error
    return lines.join('\n')
  } finally {
    server.close()
  }
}

const namesIn = async (dir: string) => (await readdir(dir)).filter((name) => name.startsWith('bake-engine-'))

describe.runIf(isRoot)('an engine of its own for a worker of a test', { timeout: 300_000 }, () => {
  test('the host engine keeps its bridge and the network of a RUN before, during and after; nothing stays mounted or running', async () => {
    await using registry = await startRegistry()
    const before = await bridge()
    expect(await runWithNetwork(registry)).toBe('over the bridge')
    const mounts = await readFile('/proc/self/mounts', 'utf8')
    let dir: string
    {
      await using engine = await startEngine({ reach: [registry.host] })
      dir = join(engine.dataRoot, '..')
      const info = await new DockerEngine({ DOCKER_HOST: engine.host }).info()
      expect(info).toMatchObject({ containerdStore: true, dataRoot: engine.dataRoot })
      // A step of its own, so that there are a network and control groups to leave behind.
      await using workshop = await openWorkshop()
      const request = await workshop.request('FROM scratch\nCOPY root /\nRUN echo ran in $0\n', {
        push: [`${registry.host}/own:1`],
      })
      await writeFiles(request.contextDir, await tinyRoot('root'))
      const { error, lines } = await workshop.build(request, { env: { ...process.env, DOCKER_HOST: engine.host } })
      expect(error).toBeUndefined()
      expect(lines).toEqual(['ran in /bin/sh'])
      expect(await bridge()).toEqual(before)
      expect(await runWithNetwork(registry)).toBe('over the bridge')
      await engine.stop('kill')
      await engine.start()
      expect(await bridge()).toEqual(before)
    }
    expect(await bridge()).toEqual(before)
    expect(await runWithNetwork(registry)).toBe('over the bridge')
    expect(await readFile('/proc/self/mounts', 'utf8')).toBe(mounts)
    expect(await namesIn(tmpdir())).not.toContain(dir.split('/').at(-1))
    const commands = await Promise.all(
      (await readdir('/proc'))
        .filter((name) => /^\d+$/.test(name))
        .map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
    )
    expect(commands.filter((command) => command.includes(dir))).toEqual([])
  })

  test('pushes to and pulls from a registry on the host; keeps its images when it is killed and started again', async () => {
    await using registry = await startRegistry()
    await using engine = await startEngine({ reach: [registry.host] })
    await using workshop = await openWorkshop()
    const request = await workshop.request('FROM scratch\nCOPY Dockerfile /\n', { push: [`${registry.host}/a:1`] })
    const { error } = await workshop.build(request, { env: { ...process.env, DOCKER_HOST: engine.host } })
    expect(error).toBeUndefined()
    expect(await new HttpRegistry().head({ host: registry.host, path: 'a', tag: '1' })).toBeDefined()
    await engine.stop('kill')
    await engine.start()
    await run('docker', ['pull', '-q', `${registry.host}/a:1`], { env: { ...process.env, DOCKER_HOST: engine.host } })
    expect(await new DockerEngine({ DOCKER_HOST: engine.host }).image(`${registry.host}/a:1`)).toBeDefined()
    expect(await new DockerEngine().image(`${registry.host}/a:1`)).toBeUndefined()
  })
})

describe('a shaped link', () => {
  test('has the rate and the round trip that it is told to have', async () => {
    const body = Buffer.alloc(2_500_000, 'x')
    const server = createServer((request, response) => response.end(request.url === '/large' ? body : 'small'))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    await using forwarder = await startForwarder()
    try {
      const { port: to } = server.address() as { port: number }
      const port = await forwarder.forward({ port: 0, to, shape: { megabitsPerSecond: 40, latencyMs: 20 } })
      const timed = async (path: string) => {
        const started = performance.now()
        const answer = await fetch(`http://127.0.0.1:${port}${path}`)
        expect(answer.ok).toBe(true)
        expect((await answer.bytes()).length).toBe(path === '/large' ? body.length : 5)
        return performance.now() - started
      }
      // Handshake and request: a round trip of 40 ms each. 2.5 MB at 5 MB/s: half a second. A busy machine may take longer, never less.
      expect(await timed('/small')).toBeGreaterThanOrEqual(78)
      expect(await timed('/large')).toBeGreaterThanOrEqual(490)
    } finally {
      server.close()
      server.closeAllConnections()
    }
  })
})
