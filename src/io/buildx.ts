import { mkdir, readFile, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, unavailable } from '../errors.ts'
import type { BuildEvent } from '../events.ts'
import type { Builder, BuildRequest, BuildResult } from './builder.ts'
import { buildxArguments, buildxEnvironment } from './buildx-arguments.ts'
import { BuildEvents } from './buildx-events.ts'
import { classifyFailure } from './buildx-failures.ts'
import { assertBuildx } from './buildx-find.ts'
import { openSpool } from './buildx-spool.ts'
import type { SolveStatus } from './buildx-status.ts'
import { spawnChild } from './child.ts'
import { forgetChild, recordChild } from './child-record.ts'
import { RawJson } from './rawjson.ts'
import type { RegistryLogins } from './registry-logins.ts'

export interface BuildxBuilderOptions {
  /** EngineInfo.containerdStore. Off: inline cache only, one platform, no attestations. */
  containerdStore: boolean
  /** EngineInfo.dataRoot: looked at when a step fails, whether the disk is full. */
  dataRoot?: string | undefined
  /** Also keep built images in the engine under the names they are pushed by (so that `docker run` needs no registry); true unless told. */
  keep?: boolean
  env?: NodeJS.ProcessEnv
  /** Where tokens for ECR come from; without, the docker configuration of `env` has every login. */
  logins?: Pick<RegistryLogins, 'forBuild'>
}

type OnEvent = (event: BuildEvent) => void | Promise<void>

/** The file that names the buildx of the slot whose BUILDX_CONFIG is `configDir`: for killRecorded when a worker starts. */
export const buildxRecord = (configDir: string): string => join(configDir, 'bake-child.json')

/** Builds with the docker-buildx plugin itself, one process per build. A configDir serves one build at a time. */
export class BuildxBuilder implements Builder {
  readonly #options: BuildxBuilderOptions
  readonly #env: NodeJS.ProcessEnv

  constructor(options: BuildxBuilderOptions) {
    this.#options = options
    this.#env = options.env ?? process.env
  }

  async build(request: BuildRequest, { signal, onEvent }: { signal: AbortSignal; onEvent: OnEvent }): Promise<BuildResult> {
    signal.throwIfAborted()
    const { containerdStore, keep = true, dataRoot } = this.#options
    if (request.ssh.length > 0 && !this.#env.SSH_AUTH_SOCK) throw noAgent()
    const metadataFile = join(request.configDir, 'metadata.json')
    const args = buildxArguments(request, { containerdStore, keep, metadataFile })
    const { path } = await assertBuildx(this.#env)
    await mkdir(request.configDir, { recursive: true, mode: 0o700 })
    await clean(request.configDir, metadataFile)

    await using login = await this.#options.logins?.forBuild(request)
    const env = login ? { ...this.#env, DOCKER_CONFIG: login.configDir } : this.#env
    let freeBytes: number | undefined
    const onStep: OnEvent = async (event) => {
      // Looked at right now: BuildKit throws the failed step's files away soon.
      if (event.type === 'step' && event.state === 'failed') freeBytes = await free(dataRoot)
      await onEvent(event)
    }
    const { exit, events, text } = await this.#run(path, args, buildxEnvironment(env, request.configDir), {
      configDir: request.configDir,
      signal,
      onStep,
      onEvent,
    })
    const digest = await readDigest(metadataFile)
    await clean(request.configDir, metadataFile)
    signal.throwIfAborted()
    if (exit.code === 0) return { digest, steps: events.steps, cacheFound: events.cacheFound }
    const failure = await classifyFailure({ text, step: events.failed, exit, freeBytes, dataRoot, push: request.push })
    if (failure.code === 'registry_denied' || failure.code === 'base_pull_failed') login?.refused()
    throw failure
  }

  /** One buildx from start to end, its events told no faster than they are taken. Whatever is thrown in between, it is dead afterwards. */
  async #run(
    path: string,
    args: string[],
    env: NodeJS.ProcessEnv,
    { configDir, signal, onStep, onEvent }: { configDir: string; signal: AbortSignal; onStep: OnEvent; onEvent: OnEvent },
  ) {
    const events = new BuildEvents()
    const json = new RawJson()
    const tell = async (told: Iterable<BuildEvent>) => {
      for (const event of told) {
        const settled = event.type === 'step' ? onStep(event) : onEvent(event)
        // Not for every line of a flood: a promise costs a turn of the event loop's queue.
        if (settled !== undefined) await settled
      }
    }
    await using spool = await openSpool(configDir)
    const record = buildxRecord(configDir)
    // Forgotten after its end, which comes first: disposal runs backwards.
    using _record = { [Symbol.dispose]: () => forgetChild(record) }
    await using child = spawnChild(path, args, {
      cwd: configDir,
      env,
      stderr: spool.fd,
      signal,
    })
    recordChild(record, child.pid)
    for await (const chunk of spool.read(child.exited)) {
      for (const status of json.push(chunk)) await tell(events.take(status as SolveStatus))
      if (signal.aborted) break
    }
    json.end()
    await tell(events.end())
    return { exit: await child.exited, events, text: json.text }
  }
}

const noAgent = () =>
  unavailable('ssh_agent_missing', 'the image asks for ssh, but this worker has no ssh agent', {
    next: 'start the worker with an agent: eval "$(ssh-agent)" && ssh-add, then bake worker (SSH_AUTH_SOCK must be set)',
  })

/** buildx notes every build in `refs` and never forgets one: https://github.com/docker/buildx/blob/v0.13.1/localstate/localstate.go */
async function clean(configDir: string, metadataFile: string): Promise<void> {
  await rm(metadataFile, { force: true })
  await rm(join(configDir, 'refs'), { recursive: true, force: true })
}

/** What `--metadata-file` says was pushed: the digest of the manifest, or of the index for several platforms. */
async function readDigest(metadataFile: string): Promise<string | undefined> {
  const text = await readFile(metadataFile, 'utf8').catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return '{}'
    throw error
  })
  const digest: unknown = JSON.parse(text)['containerimage.digest']
  return typeof digest === 'string' ? digest : undefined
}

async function free(dir: string | undefined): Promise<number | undefined> {
  if (dir === undefined) return undefined
  const disk = await statfs(dir).catch(() => undefined)
  return disk && disk.bavail * disk.bsize
}
