import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { BuildEvent } from '../../../src/events.ts'
import type { BuildRequest } from '../../../src/io/builder.ts'
import { BuildxBuilder, type BuildxBuilderOptions } from '../../../src/io/buildx.ts'

/** Debian with node and CA certificates, in this machine's engine only. */
export const BASE = 'localhost/bakehouse/base:bookworm'

export interface Workshop extends AsyncDisposable {
  readonly dir: string
  /** A request for `dockerfile` in a context with `files`. `ARG UNIQUE` makes a RUN, the file `unique` a COPY that no cache has. */
  request(dockerfile: string, more?: Partial<BuildRequest> & { files?: Record<string, string> }): Promise<BuildRequest>
  /** Builds it; what was told and what came out. */
  build(request: BuildRequest, options?: BuildOptions): Promise<BuildOutcome>
}

interface BuildOptions extends Partial<BuildxBuilderOptions> {
  signal?: AbortSignal
  onEvent?: (event: BuildEvent) => void | Promise<void>
}

interface BuildOutcome {
  events: BuildEvent[]
  lines: string[]
  digest?: string | undefined
  steps?: { total: number; cached: number }
  error?: unknown
}

/** A throw-away directory with one slot's BUILDX_CONFIG. Images go to registries only. */
export async function openWorkshop(): Promise<Workshop> {
  const dir = await mkdtemp(join(tmpdir(), 'bake-buildx-'))
  let contexts = 0
  const request: Workshop['request'] = async (dockerfile, { files = {}, ...more } = {}) => {
    const contextDir = join(dir, `context-${contexts++}`)
    for (const [name, text] of Object.entries({ Dockerfile: dockerfile, unique: randomUUID(), ...files })) {
      await mkdir(dirname(join(contextDir, name)), { recursive: true })
      await writeFile(join(contextDir, name), text)
    }
    return {
      contextDir,
      dockerfile: join(contextDir, 'Dockerfile'),
      push: [],
      platforms: [],
      secrets: {},
      ssh: [],
      contexts: {},
      attest: false,
      cacheFrom: [],
      configDir: join(dir, 'slot'),
      ...more,
      args: { UNIQUE: randomUUID(), ...more.args },
    }
  }
  const build: Workshop['build'] = async (wanted, { signal = new AbortController().signal, onEvent, ...options } = {}) => {
    const events: BuildEvent[] = []
    const builder = new BuildxBuilder({ containerdStore: true, keep: false, ...options })
    const outcome = await builder
      .build(wanted, {
        signal,
        onEvent: (event) => {
          events.push(event)
          return onEvent?.(event)
        },
      })
      .catch((error: unknown) => ({ error }))
    return { ...outcome, events, lines: events.flatMap((event) => (event.type === 'line' ? [event.text] : [])) }
  }
  return { dir, request, build, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) }
}
