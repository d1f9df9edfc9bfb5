import { createWriteStream } from 'node:fs'
import { mkdir, realpath } from 'node:fs/promises'
import type Docker from 'dockerode'
import { messageOf, unavailable } from '../../errors.ts'
import { sha256 } from '../../names.ts'
import { dockerEndpoint } from '../docker-endpoint.ts'
import { assertFree } from './ports.ts'
import type { RegistryOptions, RunningRegistry } from './registry.ts'
import { registryReady } from './registry-probe.ts'
import { type HostFiles, stateDirError } from './state-dir.ts'

/** Of the registry's image: its port and where it keeps data. */
const IMAGE_PORT = '5000/tcp'
const IMAGE_DATA = '/var/lib/registry'
const STOP_SECONDS = 2

/** The registry as a container of the local engine, named by the state directory, so that one a killed host left is found and replaced. */
export async function startRegistryContainer(options: RegistryOptions & { image: string }): Promise<RunningRegistry> {
  const { files, port, image, onProblem } = options
  const docker = await openEngine(image)
  const stateDir = await realpath(files.dir)
  const name = `bake-registry-${sha256(stateDir).slice(0, 12)}`
  await remove(docker, name)
  await assertFree(port, 'registry', files)
  await mkdir(files.registryDir, { recursive: true }).catch((error: unknown) => {
    throw stateDirError(error, files.dir)
  })
  await ensureImage(docker, image, onProblem)
  try {
    const container = await docker.createContainer(containerSpec(name, image, stateDir, port))
    await copyLog(container, files)
    await container.start()
    await registryReady(port, container.wait({ condition: 'not-running' }), files)
    return { kind: image, stop: () => stop(docker, name) }
  } catch (error) {
    await remove(docker, name)
    throw error instanceof Error && 'statusCode' in error ? registryContainerFailed(image, error) : error
  }
}

const containerSpec = (name: string, image: string, stateDir: string, port: number): Docker.ContainerCreateOptions => ({
  name,
  Image: image,
  Labels: { 'bake.host': stateDir },
  Env: [
    'REGISTRY_LOG_LEVEL=warn',
    'REGISTRY_LOG_ACCESSLOG_DISABLED=false',
    'REGISTRY_STORAGE_DELETE_ENABLED=true',
    'REGISTRY_STORAGE_REDIRECT_DISABLE=true',
    `REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=${IMAGE_DATA}`,
    'REGISTRY_HTTP_ADDR=0.0.0.0:5000',
  ],
  ExposedPorts: { [IMAGE_PORT]: {} },
  // A terminal: its log comes as one plain stream.
  Tty: true,
  HostConfig: {
    Binds: [`${stateDir}/registry:${IMAGE_DATA}`],
    PortBindings: { [IMAGE_PORT]: [{ HostIp: '127.0.0.1', HostPort: String(port) }] },
    // The engine starts it again when it crashes, but not after the engine itself was started anew: its host may be gone.
    RestartPolicy: { Name: 'on-failure' },
  },
})

async function stop(docker: Docker, name: string): Promise<void> {
  await docker
    .getContainer(name)
    .stop({ t: STOP_SECONDS })
    .catch(() => {})
  await remove(docker, name)
}

async function openEngine(image: string): Promise<Docker> {
  const { host } = await dockerEndpoint(process.env)
  const next = 'Install the registry (apt install docker-registry), or name a registry in bake.yaml (`registry:`).'
  if (!host.startsWith('unix://'))
    throw unavailable(
      'registry_missing',
      `no registry is installed, and its container ${image} would run on another machine (${host})`,
      { next },
    )
  const { default: Engine } = await import('dockerode')
  const docker = new Engine({ socketPath: host.slice('unix://'.length) })
  await docker.ping().catch((cause: unknown) => {
    throw unavailable(
      'registry_missing',
      `no registry is installed, and the Docker engine, which could run one, does not answer: ${messageOf(cause)}`,
      {
        next,
        cause,
      },
    )
  })
  return docker
}

async function ensureImage(docker: Docker, image: string, onProblem: (text: string) => void): Promise<void> {
  const known = await docker
    .getImage(image)
    .inspect()
    .catch((error: { statusCode?: number }) => {
      if (error.statusCode !== 404) throw error
    })
  if (known) return
  onProblem(`pulling ${image}, because no registry is installed`)
  try {
    const stream = await docker.pull(image)
    await new Promise<void>((resolve, reject) => {
      // The stream reports a failed pull as a line of its own, which followProgress turns into an error.
      docker.modem.followProgress(stream, (error) => (error ? reject(error) : resolve()))
    })
  } catch (cause) {
    throw unavailable(
      'registry_missing',
      `no registry is installed, and its image ${image} can't be pulled: ${messageOf(cause)}`,
      {
        ids: { image },
        next: 'Install the registry (apt install docker-registry), or name a registry in bake.yaml (`registry:`).',
        cause,
      },
    )
  }
}

/** Before it starts, so that no line is missed. */
async function copyLog(container: Docker.Container, files: HostFiles): Promise<void> {
  const stream = await container.attach({ stream: true, stdout: true, stderr: true })
  stream.on('error', () => {})
  stream.pipe(createWriteStream(files.registryLog, { flags: 'a', mode: 0o600 }).on('error', () => {}))
}

async function remove(docker: Docker, name: string): Promise<void> {
  await docker
    .getContainer(name)
    .remove({ force: true, v: true })
    .catch((error: { statusCode?: number }) => {
      if (error.statusCode !== 404) throw error
    })
}

const registryContainerFailed = (image: string, cause: Error) =>
  unavailable('registry_failed', `the registry's container (${image}) does not start: ${cause.message}`, {
    ids: { image },
    next: 'Install the registry (apt install docker-registry), or see `docker logs` and `docker events`.',
    cause,
  })
