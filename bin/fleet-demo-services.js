// What bin/fleet-demo starts and runs: processes that end with it, AWS played by moto, a registry.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const root = fileURLToPath(new URL('..', import.meta.url))
export const BASE = 'localhost/bakehouse/base:bookworm'
/** Aborted by Ctrl-C and SIGTERM. */
export const over = new AbortController()
/** The demo is the default setup, whatever this shell is set to. */
export const plainEnv = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(?:BAKE|AWS|GIT)_/.test(name)))

export async function startAws(work, undo) {
  const port = await freePort()
  // Debian's Python, where bin/setup --tests puts moto, before any other.
  const script = join(root, 'test/support/moto-server.py')
  const python = await firstThat(['/usr/bin/python3', 'python3'], (path) => run(path, ['-c', 'import moto']))
  const log = join(work, 'aws.log')
  const child = service(python, [script, '-H', '127.0.0.1', '-p', String(port)], { cwd: work, env: plainEnv, log })
  undo.defer(() => end(child, 'SIGKILL'))
  await answers(`http://127.0.0.1:${port}/moto-api/`, child, log)
  return `http://127.0.0.1:${port}`
}

export async function startRegistry(work, undo) {
  const port = await freePort()
  const config = join(work, 'registry.yml')
  const storage = { filesystem: { rootdirectory: join(work, 'registry') } }
  writeFileSync(config, JSON.stringify({ version: '0.1', log: { level: 'error' }, storage, http: { addr: `127.0.0.1:${port}` } }))
  const binary = await firstThat(['docker-registry', 'registry'], (name) => run(name, ['--version']))
  const log = join(work, 'registry.log')
  const child = service(binary, ['serve', config], { cwd: work, env: plainEnv, log })
  undo.defer(() => end(child, 'SIGKILL'))
  await answers(`http://127.0.0.1:${port}/v2/`, child, log)
  return `localhost:${port}`
}

/** A fleet's bases are in a registry: what only this machine's engine has is nothing to those who ask. */
export async function pushBase(registry, undo) {
  const name = `${registry}/demo-base:bookworm`
  await run('docker', ['tag', BASE, name])
  undo.defer(() => run('docker', ['image', 'rm', '--no-prune', name], { signal: undefined }).catch(() => {}))
  await run('docker', ['push', '--quiet', name])
  return name
}

export async function forgetImages(registry) {
  const anyhow = { signal: undefined }
  const filter = ['--format', '{{.Repository}}:{{.Tag}}', '--filter', `reference=${registry}/shop/*`]
  const names = await run('docker', ['image', 'ls', ...filter], anyhow).catch(() => '')
  for (const name of names.split('\n').filter(Boolean)) await run('docker', ['image', 'rm', name], anyhow).catch(() => {})
}

/** A process that ends with this one, whatever signal ends that; it says what it says in a file. */
export function service(command, args, { cwd, env, log }) {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const file = createWriteStream(log, { flags: 'a' })
  for (const stream of [child.stdout, child.stderr]) stream.pipe(file, { end: false })
  child.once('close', () => file.end())
  return child
}

export async function end(child, signal) {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill(signal)
  await once(child, 'exit')
}

async function answers(url, child, log) {
  for (let tries = 0; tries < 600; tries++) {
    if (child.exitCode !== null) throw new Error(`it ended: ${existsSync(log) ? readFileSync(log, 'utf8').slice(-2_000) : ''}`)
    if ((await fetch(url).catch(() => undefined))?.ok) return
    await sleep(200, undefined, { signal: over.signal })
  }
  throw new Error(`nothing answers at ${url}`)
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  return port
}

async function firstThat(candidates, works) {
  for (const candidate of candidates)
    if (
      await works(candidate).then(
        () => true,
        () => false,
      )
    )
      return candidate
  throw new Error(`none of these works here: ${candidates.join(', ')}; bin/setup --tests installs one`)
}

/** stdout of a program that must succeed; it is ended with the demo. */
export async function run(command, args, more = {}) {
  try {
    const { stdout } = await promisify(execFile)(command, args, { maxBuffer: 1 << 28, signal: over.signal, ...more })
    return stdout
  } catch (error) {
    if (!('signal' in more)) over.signal.throwIfAborted()
    throw new Error(`${command} ${args.join(' ')} failed: ${error.stderr || error.stdout || error.message}`, { cause: error })
  }
}
