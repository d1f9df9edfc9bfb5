import { unavailable } from '../errors.ts'
import type { BuildRequest } from './builder.ts'

export interface BuildxOptions {
  /** The engine keeps images in containerd's store: it exports registry caches and several platforms, and BuildKit itself pushes. */
  containerdStore: boolean
  /** Keep the image in the engine too, under the pushed names; without, only the registry and BuildKit's cache have it. */
  keep: boolean
  metadataFile: string
}

/**
 * The arguments of `docker-buildx` for a request: https://docs.docker.com/reference/cli/docker/buildx/build/. Values of build args stand here, readable for
 * every user of the machine: they are not secrets. Throws platforms_unsupported and attestations_unsupported (exit 4).
 */
export function buildxArguments(request: BuildRequest, options: BuildxOptions): string[] {
  if (!options.containerdStore) needsNoContainerd(request)
  return [
    'build',
    '--progress=rawjson',
    `--provenance=${request.attest}`,
    `--sbom=${request.attest}`,
    ...['--file', request.dockerfile],
    ...(request.target === undefined ? [] : ['--target', request.target]),
    ...request.platforms.flatMap((platform) => ['--platform', platform]),
    ...Object.entries(request.args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
    ...Object.entries(request.secrets).flatMap(([id, file]) => ['--secret', csv({ id, src: file })]),
    ...(request.noCache ? ['--no-cache'] : []),
    ...request.ssh.flatMap((id) => ['--ssh', id]),
    ...Object.entries(request.contexts).flatMap(([name, value]) => ['--build-context', `${name}=${value}`]),
    ...(request.network === undefined ? [] : ['--network', request.network]),
    ...['--output', output(request, options)],
    ...request.cacheFrom.flatMap((ref) => ['--cache-from', csv({ type: 'registry', ref })]),
    ...(request.cacheTo === undefined ? [] : ['--cache-to', cacheTo(request.cacheTo, options)]),
    ...['--metadata-file', options.metadataFile],
    '--',
    request.contextDir,
  ]
}

/**
 * With the containerd store BuildKit pushes, and buildx pushes every name once more through the engine's API unless `push` reads as no boolean to it; BuildKit
 * takes an empty value for true (exporter/containerimage: parse). Measured: 50–70 ms less for a warm build. Without that store only the second push exists.
 */
function output(request: BuildRequest, { containerdStore, keep }: BuildxOptions): string {
  if (request.keepAs !== undefined) return csv({ type: 'image', name: request.keepAs, push: 'false', 'oci-mediatypes': 'true' })
  const push = containerdStore ? '' : 'true'
  const store: Record<string, string> = containerdStore && !keep ? { store: 'false' } : {}
  return csv({ type: 'image', name: request.push.join(','), push, 'oci-mediatypes': 'true', ...store })
}

/** The default image store exports no cache of its own; what it can do is to write the cache's description into the image. */
function cacheTo(ref: string, { containerdStore }: BuildxOptions): string {
  if (!containerdStore) return csv({ type: 'inline' })
  return csv({ type: 'registry', ref, mode: 'max', 'image-manifest': 'true', 'oci-mediatypes': 'true', 'ignore-error': 'true' })
}

function needsNoContainerd({ platforms, attest }: BuildRequest): void {
  const next =
    'switch on the containerd image store: "features": {"containerd-snapshotter": true} in /etc/docker/daemon.json, then restart the engine; bake doctor tells more'
  if (platforms.length > 1) {
    throw unavailable('platforms_unsupported', `this Docker engine can't build several platforms (${platforms.join(', ')})`, {
      next,
    })
  }
  if (attest) throw unavailable('attestations_unsupported', 'this Docker engine can’t attach attestations to images', { next })
}

/** One line of RFC 4180, as buildx reads such options with Go's encoding/csv: a field with a comma or a quote is quoted as a whole. */
const csv = (fields: Record<string, string>): string =>
  Object.entries(fields)
    .map(([name, value]) => `${name}=${value}`)
    .map((field) => (/[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field))
    .join(',')

/** Variables of the caller that would change what is built or how it is told; everything else (engine, proxies, agents, credentials) passes. */
const DROPPED =
  /^(?:SOURCE_DATE_EPOCH|DOCKER_DEFAULT_PLATFORM|(?:EXPERIMENTAL_)?BUILDKIT_.*|(?:EXPERIMENTAL_)?BUILDX_.*|OTEL_.*|BAKE_.*)$/

/**
 * The environment of buildx: the caller's without what would leak into the build or tell it secrets. `configDir`: see BuildRequest. BUILDX_GIT_INFO: on one
 * machine the work tree lies in the user's checkout, whose state buildx would ask seven gits about (build/git.go).
 */
export const buildxEnvironment = (env: NodeJS.ProcessEnv, configDir: string): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(env).filter(([name]) => !DROPPED.test(name))),
  BUILDX_CONFIG: configDir,
  BUILDX_GIT_INFO: 'false',
})
