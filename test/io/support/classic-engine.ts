import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawnChild } from '../../../src/io/child.ts'
import { DockerEngine } from '../../../src/io/docker.ts'
import { waitFor } from '../../../src/wait.ts'

export interface ClassicEngine extends AsyncDisposable {
  /** For DOCKER_HOST. */
  readonly host: string
  /** A registry that only this engine reaches. */
  readonly registry: string
  /** argv that puts a command into its network, so that both reach the same loopback. */
  readonly inside: string[]
}

/** dockerd's own way to end: it stops its containerd and unmounts. */
const GRACE_MS = 10_000

/**
 * A second Docker engine, without the containerd image store, and a registry, in namespaces of their own: `--bridge none` in the host's network namespace
 * would take the host engine's bridge away. No RUN in there (no network, no cgroups of its own); COPY works. Needs root on Linux.
 * `dataMiB`: its data are on a disk of that size.
 */
export async function startClassicEngine(options: { dataMiB?: number } = {}): Promise<ClassicEngine> {
  const dir = await mkdtemp(join(tmpdir(), 'bake-classic-'))
  const socket = join(dir, 'docker.sock')
  await mkdir(join(dir, 'data'))
  await writeFile(join(dir, 'daemon.json'), '{}')
  await writeFile(
    join(dir, 'registry.yml'),
    JSON.stringify({
      version: '0.1',
      storage: { filesystem: { rootdirectory: join(dir, 'registry') } },
      http: { addr: '127.0.0.1:5000' },
    }),
  )
  const disk = options.dataMiB ? `mount -t tmpfs -o size=${options.dataMiB}m tmpfs "$1/data" && ` : ''
  const script = `${disk}mount -t tmpfs tmpfs /run && ip link set lo up && { docker-registry serve "$1/registry.yml" & }
exec dockerd --config-file "$1/daemon.json" --data-root "$1/data" --exec-root /run/docker --pidfile /run/docker.pid --host "unix://$1/docker.sock" \
  --bridge none --iptables=false --ip6tables=false --storage-driver vfs`
  const namespaces = ['--mount', '--net', '--pid', '--fork', '--mount-proc', '--kill-child']
  const engine = spawnChild('unshare', [...namespaces, 'sh', '-c', script, 'sh', dir], { graceMs: GRACE_MS })
  const dispose = async () => {
    await engine.end()
    await rm(dir, { recursive: true, force: true })
  }
  const host = `unix://${socket}`
  await waitFor(
    () =>
      new DockerEngine({ DOCKER_HOST: host }).ping().then(
        () => true,
        () => undefined,
      ),
    {
      what: 'a second engine',
      deadlineMs: 30_000,
      intervalMs: 100,
    },
  ).catch(async (error) => {
    await dispose()
    throw error
  })
  const inside = ['nsenter', `--net=/proc/${engine.pid}/ns/net`, '--']
  return { host, registry: 'localhost:5000', inside, [Symbol.asyncDispose]: dispose }
}
