export interface EngineInfo {
  version: string
  /** The containerd image store is on: registry caches and multi-platform images work. */
  containerdStore: boolean
  os: string
  architecture: string
  /** Its data root, when the engine runs on this machine and the path is there. */
  dataRoot: string | undefined
  /** Of its data: another one has other caches. */
  id: string
}

/** What a garbage collection of BuildKit's cache did. */
export interface Collection {
  leftBytes: number
  /** When the last used of the steps' results that are gone was used (ms since the epoch); undefined when none is. */
  lostUseMs: number | undefined
}

export interface EngineImage {
  /** Id as the engine names it (`sha256:…`): the manifest digest with the containerd store, else the config digest. */
  id: string
  repoDigests: string[]
  os: string
  architecture: string
}

/** What bake needs of the Docker engine besides building. Throws `engine_unreachable` (world's, exit 4) when it doesn't answer. */
export interface Engine {
  ping(): Promise<void>
  info(): Promise<EngineInfo>
  /** A local image by reference or id; undefined when the engine has none. */
  image(reference: string): Promise<EngineImage | undefined>
  /** Names the local image `source` (id or reference) `repository:tag` too. */
  tag(source: string, repository: string, tag: string): Promise<void>
  /** Takes a name away, and the image when it was the last; none is fine. */
  untag(reference: string): Promise<void>
  /** Bytes that BuildKit keeps of earlier builds. */
  cacheBytes(): Promise<number>
  /** Throws away what was left alone for longest, until `keepBytes` are left. What a build uses stays. */
  collectCache(keepBytes: number): Promise<Collection>
}
