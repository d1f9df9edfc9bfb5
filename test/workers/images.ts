import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { access } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { uniqueName } from '../support/moto.ts'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** What bin/setup makes; where tests run there may be no public registry. */
export const BASE = 'localhost/bakehouse/base:bookworm'
/** Packages are fetched, and layers written, on a machine that does other things too. */
export const BUILD_MS = 900_000

export interface BuiltImage extends AsyncDisposable {
  readonly name: string
}

/** stdout of a docker command that must succeed. */
export async function docker(args: string[], env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const { stdout } = await promisify(execFile)('docker', args, { maxBuffer: 1 << 26, env })
  return stdout.trim()
}

/** A stage of workers/Dockerfile, made from this clone as it was built last. */
export async function buildWorker(target: 'worker' | 'engine'): Promise<BuiltImage> {
  await access(join(ROOT, 'oclif.manifest.json')).catch(() => {
    throw new Error('this tests what is shipped: npm run build first')
  })
  return build(join(ROOT, 'workers/Dockerfile'), target, ROOT, { BASE, INSTALL: BASE })
}

/** moto or a registry, as compose.yaml takes them from elsewhere. */
export const buildService = (target: 'moto' | 'registry' | 'packages'): Promise<BuiltImage> =>
  build(join(ROOT, 'test/workers/services.Dockerfile'), target, join(ROOT, 'test/workers'), { BASE })

async function build(file: string, target: string, context: string, args: Record<string, string>): Promise<BuiltImage> {
  const name = `bake-test/${uniqueName(target)}:test`
  const given = Object.entries(args).flatMap(([key, value]) => ['--build-arg', `${key}=${value}`])
  await docker([
    'buildx',
    'build',
    '--provenance=false',
    '--quiet',
    '--tag',
    name,
    '--target',
    target,
    ...given,
    '--file',
    file,
    context,
  ])
  return { name, [Symbol.asyncDispose]: async () => void (await docker(['image', 'rm', '--force', name])) }
}

/** What the machine's own engine needs to give a RUN a network: looked at before, during and after. */
export const hostBridge = (): Promise<string> =>
  promisify(execFile)('ip', ['-json', 'address', 'show', 'docker0']).then(({ stdout }) => {
    const [{ addr_info }] = JSON.parse(stdout) as [{ addr_info: { family: string; local: string }[] }]
    return addr_info.find(({ family }) => family === 'inet')!.local
  })

/** A port of loopback that nobody has now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
