import { chmod, cp, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { text as readAll } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { MachinePlan } from '../../src/ami/machine.ts'
import { renderMachine } from '../../src/ami/render.ts'
import { imageOf } from '../../src/docker-run.ts'
import { type Child, spawnChild } from '../../src/io/child.ts'
import { waitFor } from '../../src/wait.ts'
import { type OwnEngine, startEngine } from './engine.ts'

export interface Ran {
  status: number | null
  stdout: string
  stderr: string
}

/** An instance of a machine image, of real parts: see `startInstance`. */
export interface TestInstance extends AsyncDisposable {
  /** `i-…` */
  readonly id: string
  readonly engine: OwnEngine
  /** Runs a bash script as root, as SSM's agent does. A signal kills it and all that it started. */
  run(script: string, signal?: AbortSignal): Promise<Ran>
  /** Containers that run: names to images (`<repository>@<digest>`). */
  containers(): Promise<Record<string, string>>
  /** All units stop, what is in memory is gone, and they start again. */
  reboot(): Promise<void>
}

export interface TestInstanceOptions {
  /** Its services are rendered as they are, but log to files: there is no journald. Their volumes must be named ones. */
  plan: Omit<MachinePlan, 'rendered'>
  /** Of the registry that the services' images are in, on this machine's loopback. */
  registryPort: number
  id?: string
  /** More ports of this machine's loopback that it reaches under the same number: of AWS in a test. */
  reach?: number[]
  /** Of all its units, and of what `run` runs: where AWS is. */
  env?: Record<string, string>
  /** `#bake …` lines. */
  userData?: string
}

const STAND_IN = fileURLToPath(new URL('./systemd', import.meta.url))
const PATH = '/usr/local/bin:/usr/sbin:/usr/bin'

/** In namespaces of its own, and in the engine's network: whatever ends it takes its mounts along. Programs are this machine's. */
const ROOT = `set -euo pipefail
root=$1 kit=$2 shared=$3
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir -p "$root"/{usr,proc,sys,dev,run,tmp,etc,var/lib,root,engine}
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
ln -s ../run "$root/var/run"
# Units run /usr/bin/docker, which on some machines lies elsewhere.
if [ -x /usr/bin/docker ]; then
  mount --bind /usr "$root/usr"
  mount -o remount,ro,bind "$root/usr"
else
  mkdir -p "$root"/over/{upper/bin,work}
  cp -L "$(command -v docker)" "$root/over/upper/bin/docker"
  mount -t overlay -o "lowerdir=/usr,upperdir=$root/over/upper,workdir=$root/over/work" overlay "$root/usr"
fi
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/usr/local"
mount --bind "$shared" "$root/engine"
cp -r "$kit/." "$root/"
exec chroot "$root" /usr/bin/env -i "\${@:4}" python3 /engine/systemd/systemd.py
`

/** Of the programs that read a seed: it is a file here. */
const SEED: Record<string, string> = {
  blkid: 'echo /engine/seed',
  mount: 'cp /engine/user-data "$4/user-data"',
  umount: 'rm -f "$1"/*',
  udevadm: ':',
}

/**
 * A machine with an engine, a network and a root of its own, on which the rendered files of a plan lie and their units run: about two seconds. What stands in
 * for systemd is test/support/systemd; everything else of it is what an instance has. Needs root on Linux.
 */
export async function startInstance(options: TestInstanceOptions): Promise<TestInstance> {
  const id = options.id ?? `i-${crypto.randomUUID().replaceAll('-', '').slice(0, 17)}`
  await using undo = new AsyncDisposableStack()
  const engine = undo.use(await startEngine({ reach: [options.registryPort, ...(options.reach ?? [])] }))
  // The engine's directory, which goes with it. Its socket is there, also after a restart.
  const shared = dirname(engine.host.slice('unix://'.length))
  const dir = join(shared, 'machine')
  await writeKit(dir, options)
  await cp(STAND_IN, join(shared, 'systemd'), { recursive: true })
  await writeFile(join(shared, 'user-data'), options.userData ?? '#bake release=v1\n')
  const env = Object.entries({
    PATH,
    HOME: '/root',
    LC_ALL: 'C.UTF-8',
    DOCKER_HOST: 'unix:///engine/docker.sock',
    ...options.env,
  })
  const variables = env.map(([name, value]) => `${name}=${value}`)
  const [program, ...inside] = engine.inside as [string, ...string[]]
  const namespaces = ['unshare', '--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc']
  const root = [join(dir, 'root'), join(dir, 'kit'), shared, ...variables]
  const machine = undo.use(
    spawnChild(program, [...inside, ...namespaces, 'bash', '-c', ROOT, 'bash', ...root], { stderr: 'inherit', graceMs: 100 }),
  )
  const pid = await firstProcess(machine)
  const enter = [
    '--target',
    `${pid}`,
    '--mount',
    '--net',
    '--pid',
    '--root',
    '--',
    '/usr/bin/env',
    '-i',
    '--chdir=/',
    ...variables,
  ]
  const run = async (script: string, signal?: AbortSignal): Promise<Ran> => {
    await using child = spawnChild('nsenter', [...enter, 'bash', '-c', script], { stdout: 'pipe', stderr: 'pipe', signal })
    const [stdout, stderr, { code }] = await Promise.all([readAll(child.stdout!), readAll(child.stderr!), child.exited])
    return { status: code, stdout, stderr }
  }
  const must = async (script: string) => {
    const { status, stdout, stderr } = await run(script)
    if (status !== 0) throw new Error(`${id}: ${script}: ${status}\n${stdout}${stderr}`)
    return stdout
  }
  await waitFor(async () => (await run('[ -S /engine/systemd.sock ] && systemctl daemon-reload')).status === 0 || undefined, {
    ...{ what: 'the stand-in of systemd', deadlineMs: 20_000, intervalMs: 20 },
  })
  for (const image of new Set(options.plan.services.map(imageOf))) await must(`docker pull --quiet ${image}`)
  const units = 'cd /etc/systemd/system && ls -d bake-*.service'
  // Services that aren't well are a test's own business.
  const boot = () => run(`systemctl start $(${units})`)
  await boot()
  const running = undo.move()
  return {
    id,
    engine,
    run,
    async containers() {
      const lines = (await must("docker ps --no-trunc --format '{{.Names}} {{.Image}}'")).split('\n').filter(Boolean)
      return Object.fromEntries(lines.map((line) => line.split(' ') as [string, string]))
    },
    async reboot() {
      await must(`systemctl stop $(${units}) && find /run -mindepth 1 -delete`)
      await boot()
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

/** What the machine image's disk has. */
async function writeKit(dir: string, { plan }: TestInstanceOptions): Promise<void> {
  const services = plan.services.map((service) => ({ log: { driver: 'json-file' as const, options: {} }, ...service }))
  const bound = services.flatMap(({ volumes }) => volumes).find((volume) => volume.startsWith('/'))
  if (bound !== undefined) throw new Error(`${bound} would be a directory of the machine that runs the test`)
  const { files } = await renderMachine({ ...plan, services }, new Map())
  const kit = join(dir, 'kit')
  const write = async (path: string, text: string | Buffer, mode: number) => {
    await mkdir(dirname(join(kit, path)), { recursive: true })
    await writeFile(join(kit, path), text)
    await chmod(join(kit, path), mode)
  }
  await mkdir(join(dir, 'root'), { recursive: true })
  for (const { path, text, mode } of files) await write(path, text, mode)
  for (const name of ['passwd', 'group', 'hosts', 'nsswitch.conf'])
    await write(`etc/${name}`, await readFile(`/etc/${name}`), 0o644)
  for (const name of ['systemctl', 'journalctl'])
    await write(`usr/local/bin/${name}`, await readFile(join(STAND_IN, 'systemd.py')), 0o755)
  for (const [name, line] of Object.entries(SEED)) await write(`usr/local/bin/${name}`, `#!/bin/bash\n${line}\n`, 0o755)
}

/** The first process of its process namespace, by this one's number. */
function firstProcess(machine: Child): Promise<number> {
  return waitFor(
    async () => {
      const children = await readFile(`/proc/${machine.pid}/task/${machine.pid}/children`, 'utf8').catch(() => '')
      return Number(children.split(' ')[0]) || undefined
    },
    { what: 'a process of the instance', deadlineMs: 10_000, intervalMs: 10 },
  )
}
