import { execFile } from 'node:child_process'
import { rename, stat } from 'node:fs/promises'
import { promisify } from 'node:util'
import { which } from '../child.ts'
import type { HostFiles } from './state-dir.ts'

export interface RunningRegistry {
  /** What it is, for the log: a path or an image. */
  readonly kind: string
  stop(): Promise<void>
}

export interface RegistryOptions {
  files: HostFiles
  port: number
  /** Told what goes wrong while it runs, a sentence each. */
  onProblem: (text: string) => void
}

/** The registry's image when no binary is installed; BAKE_REGISTRY_IMAGE names another, and is then used before a binary. */
const DEFAULT_IMAGE = 'registry:2'
const MAX_LOG_BYTES = 5 * 1024 * 1024

/** Starts the state directory's registry on 127.0.0.1 and waits until it answers. Throws port_taken, registry_missing, registry_failed, disk_full. */
export async function startRegistry(options: RegistryOptions): Promise<RunningRegistry> {
  await rotate(options.files.registryLog)
  const image = process.env.BAKE_REGISTRY_IMAGE
  const binary = image ? undefined : await registryBinary()
  if (binary === undefined) {
    const { startRegistryContainer } = await import('./registry-container.ts')
    return startRegistryContainer({ ...options, image: image || DEFAULT_IMAGE })
  }
  const { startRegistryProcess } = await import('./registry-process.ts')
  return startRegistryProcess({ ...options, binary })
}

/** Debian calls it docker-registry, upstream registry; other programs have the latter name too, so that one is asked. */
async function registryBinary(): Promise<string | undefined> {
  const debian = which('docker-registry')
  if (debian !== undefined) return debian
  const upstream = which('registry')
  if (upstream === undefined) return undefined
  const { stdout } = await promisify(execFile)(upstream, ['--version'], { timeout: 5_000 }).catch(() => ({ stdout: '' }))
  return stdout.includes('distribution') ? upstream : undefined
}

/** Moves a log of more than 5 MB to `<path>.1`, whose earlier content goes. */
export async function rotate(path: string): Promise<void> {
  const size = await stat(path).then(
    (stats) => stats.size,
    () => 0,
  )
  if (size > MAX_LOG_BYTES) await rename(path, `${path}.1`)
}
