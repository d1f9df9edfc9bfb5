import type { BuildEvent } from '../events.ts'

export interface BuildRequest {
  /** Absolute path of the context directory. */
  contextDir: string
  /** Absolute path of the (rewritten, pinned) Dockerfile; a `<name>.dockerignore` beside it counts. */
  dockerfile: string
  /** References to push, one or more, `host/path:tag`. */
  push: string[]
  /** Push nothing: the engine itself keeps the image under this name, so that every layer of it is here and unpacked. */
  keepAs?: string | undefined
  target?: string | undefined
  platforms: string[]
  args: Record<string, string>
  /** id → absolute path of a 0600 file that holds the value. */
  secrets: Record<string, string>
  /** ssh ids: `default` or `id`; the worker's agent. */
  ssh: string[]
  /** name → absolute directory or `docker-image://…@sha256:…`. */
  contexts: Record<string, string>
  network?: 'default' | 'none' | 'host' | undefined
  /** Run every step anew, whatever is cached. */
  noCache?: boolean | undefined
  /** SBOM and provenance attestations; off unless asked for. */
  attest: boolean
  /** Cache references to read, in order of preference. */
  cacheFrom: string[]
  /** Cache reference to write (registry, mode=max), undefined: none. */
  cacheTo?: string | undefined
  /** Stable per slot: BUILDX_CONFIG; a fresh one makes BuildKit re-send the whole context. */
  configDir: string
}

export interface BuildResult {
  /** Digest of what was pushed, when the engine tells it (the containerd image store does). */
  digest?: string | undefined
  steps: { total: number; cached: number }
  /** One of `cacheFrom` was there. */
  cacheFound: boolean
}

/** One BuildKit build through buildx. Emits its events as they come, and reads on only after what onEvent returned settled (backpressure). Throws BakeError: dockerfile_failed (user's), registry_*, engine_*, disk_full (world's). */
export interface Builder {
  build(
    request: BuildRequest,
    options: { signal: AbortSignal; onEvent: (event: BuildEvent) => void | Promise<void> },
  ): Promise<BuildResult>
}
