import { randomBytes } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../../errors.ts'
import { type Child, spawnChild } from '../child.ts'
import { portHolder } from './port-holder.ts'
import { assertFree } from './ports.ts'
import type { RegistryOptions, RunningRegistry } from './registry.ts'
import { registryReady } from './registry-probe.ts'
import { stateDirError, writeAtomic } from './state-dir.ts'

const FIRST_BACKOFF_MS = 200
const LAST_BACKOFF_MS = 10_000
/** A registry that ran this long starts again with the first backoff. */
const STEADY_MS = 30_000

/** The registry as a child that dies with this process and is started again when it ends by itself. */
export async function startRegistryProcess(options: RegistryOptions & { binary: string }): Promise<RunningRegistry> {
  const { files, port, binary, onProblem } = options
  await killOrphan(port, files.registryConfig)
  await assertFree(port, 'registry', files)
  await mkdir(files.registryDir, { recursive: true }).catch((error: unknown) => {
    throw stateDirError(error, files.dir)
  })
  await writeAtomic(files.registryConfig, registryConfig(files.registryDir, port))

  let stopping = false
  let child = await spawnRegistry()
  await registryReady(port, child.exited, files).catch(async (error: unknown) => {
    stopping = true
    await child.end()
    throw error
  })
  keepRunning().catch((error: unknown) => onProblem(`the registry can't be started again: ${messageOf(error)}`))

  return {
    kind: binary,
    async stop() {
      stopping = true
      await child.end()
    },
  }

  async function spawnRegistry(): Promise<Child> {
    const log = await open(files.registryLog, 'a', 0o600)
    try {
      return spawnChild(binary, ['serve', files.registryConfig], { stdout: log.fd, stderr: log.fd })
    } finally {
      await log.close()
    }
  }

  async function keepRunning(): Promise<void> {
    let backoffMs = FIRST_BACKOFF_MS
    while (!stopping) {
      const started = performance.now()
      const exit = await child.exited
      if (stopping) return
      onProblem(`the registry ended (${exit.signal ?? exit.error?.message ?? `exit ${exit.code}`}); starting it again`)
      backoffMs = performance.now() - started > STEADY_MS ? FIRST_BACKOFF_MS : Math.min(backoffMs * 2, LAST_BACKOFF_MS)
      await sleep(backoffMs, undefined, { ref: false })
      if (stopping) return
      child = await spawnRegistry()
    }
    // stop() ended the one before while this one was being started.
    await child.end()
  }
}

/** One that outlived its host in the instant before it asked to die with it. The lock is ours, so nobody needs it. */
async function killOrphan(port: number, config: string): Promise<void> {
  const holder = await portHolder(port)
  if (!holder?.command.includes(config)) return
  process.kill(holder.pid, 'SIGKILL')
  for (let tries = 0; tries < 100 && (await portHolder(port)) !== undefined; tries++) await sleep(10)
}

/** Configuration of distribution 2.x, in JSON, which is YAML too: https://distribution.github.io/distribution/about/configuration/ */
const registryConfig = (rootdirectory: string, port: number): string =>
  JSON.stringify({
    version: '0.1',
    // The access log is written whatever the level.
    log: { level: 'warn', accesslog: { disabled: false } },
    storage: {
      filesystem: { rootdirectory },
      delete: { enabled: true },
      redirect: { disable: true },
    },
    http: { addr: `127.0.0.1:${port}`, secret: randomBytes(16).toString('hex') },
  })
