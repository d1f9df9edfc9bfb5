import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { refused, unavailable } from '../errors.ts'
import { findBuildx } from './buildx-find.ts'
import { spawnChild } from './child.ts'

/** What `docker buildx bake` would build: https://docs.docker.com/build/bake/reference/ . It asks no engine. */
export interface BakePrint {
  target: Record<string, Record<string, unknown>>
}

export interface BakePrintRequest {
  /** Directory that the file's paths start at. */
  dir: string
  /** Names of files in `dir`, later ones over earlier ones; or a compose file's text. */
  source: string[] | { text: string }
  /** Targets or groups; none: the default group. */
  targets?: string[]
  signal?: AbortSignal | undefined
}

/** Throws `buildx_missing` (exit 4) without the plugin, `bake_file_refused` (exit 2) with buildx' own words when it can't read the file. */
export async function printBake({ dir, source, targets = [], signal }: BakePrintRequest): Promise<BakePrint> {
  const buildx = await findBuildx()
  if (buildx === undefined)
    throw unavailable('buildx_missing', 'the docker-buildx plugin is not installed', {
      next: 'bin/setup installs it on Debian and Ubuntu; elsewhere: https://github.com/docker/buildx#installing',
    })
  await using agent = process.env.SSH_AUTH_SOCK ? undefined : await standInAgent()
  const files = Array.isArray(source) ? source : ['-']
  await using child = spawnChild(
    buildx.path,
    ['bake', '--print', ...files.flatMap((file) => ['--file', file]), '--', ...targets],
    {
      cwd: dir,
      env: { ...process.env, ...(agent && { SSH_AUTH_SOCK: agent.path }) },
      ...(Array.isArray(source) ? {} : { stdin: source.text }),
      stdout: 'pipe',
      stderr: 'pipe',
      signal,
    },
  )
  const [stdout, stderr, { code }] = await Promise.all([text(child.stdout!), text(child.stderr!), child.exited])
  signal?.throwIfAborted()
  if (code === 0) return JSON.parse(stdout)
  const error = stderr.slice(stderr.lastIndexOf('ERROR:')).replace(/^ERROR:\s*/, '')
  throw refused('bake_file_refused', error.trim().slice(0, 500) || `docker-buildx ended with ${code}`, {
    next: `in ${dir}: docker buildx bake --print`,
  })
}

/** `--print` refuses a target with `ssh` when no agent's socket is there, although it talks to none. */
async function standInAgent(): Promise<AsyncDisposable & { path: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'bake-agent-'))
  const server = createServer((socket) => socket.destroy())
  const path = join(dir, 'agent')
  await once(server.listen(path), 'listening')
  return {
    path,
    async [Symbol.asyncDispose]() {
      server.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
