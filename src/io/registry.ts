/** A normalised image reference: `host` always present (docker.io → registry-1 is the client's affair), `path` with `library/` filled in. */
export interface Reference {
  host: string
  path: string
  tag?: string
  digest?: string
}

export interface Descriptor {
  digest: string
  mediaType: string
  size: number
}

export interface Manifest extends Descriptor {
  bytes: Uint8Array
}

/** Limits of one call; the client's own where left out. */
export interface RegistryCall {
  signal?: AbortSignal | undefined
  /** One attempt, ms. */
  timeoutMs?: number | undefined
  /** Attempts after the first. */
  retries?: number | undefined
}

/** The parts of the OCI distribution API that bake uses: https://github.com/opencontainers/distribution-spec/blob/main/spec.md */
export interface Registry {
  /** HEAD of a manifest by tag or digest (`Docker-Content-Digest`); undefined when the registry says 404. */
  head(reference: Reference, call?: RegistryCall): Promise<Descriptor | undefined>
  /** The manifest itself, its digest verified; undefined on 404. */
  manifest(reference: Reference, call?: RegistryCall): Promise<Manifest | undefined>
  /** A small blob (an image config), digest verified. */
  blob(reference: Reference, digest: string, call?: RegistryCall): Promise<Uint8Array>
  /** Puts `manifest` under `tag` in the reference's repository: tags without moving a layer. */
  tag(reference: Reference, tag: string, manifest: Manifest, call?: RegistryCall): Promise<void>
}
