import { mkdir, mkdtemp, readdir, readlink, rm, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { type Child, spawnChild } from '../../src/io/child.ts'
import { DockerEngine } from '../../src/io/docker.ts'
import { waitFor } from '../../src/wait.ts'
import { type Shape, startForwarder } from './forwarder.ts'
import { isAlive } from './host.ts'

export interface OwnEngine extends AsyncDisposable {
  /** For DOCKER_HOST; dockerode, docker and buildx all take it. */
  readonly host: string
  /** Its data, on this machine's disk: as EngineInfo.dataRoot. */
  readonly dataRoot: string
  /** argv that puts a command into the engine's network. */
  readonly inside: string[]
  /** Gives the engine 127.0.0.1:`port` of this machine, under the same number. */
  reach(port: number, shape?: Shape): Promise<void>
  /** Ends the engine as an administrator does, or kills it; its data and its network stay. */
  stop(how?: 'end' | 'kill'): Promise<void>
  /** Starts it again on the same data and socket. */
  start(): Promise<void>
}

export interface OwnEngineOptions {
  /** Ports of this machine's loopback that the engine is to reach: of a registry, of a gate. As in `localhost:5000`, or a number. */
  reach?: (number | string)[]
  /** Of every port of `reach`. */
  shape?: Shape
  /** An existing directory for its data, left as it is at the end; a throw-away one unless told. */
  dataRoot?: string
}

/** dockerd's own way to end: it stops its containerd and unmounts. */
const GRACE_MS = 10_000

/**
 * In a mount and a process namespace of its own, so that nothing stays mounted or running whatever signal ends it. Its network namespace outlives a
 * restart: a holder has it. No firewall rules, so a RUN has a network that leads to the engine alone, or with `network: host` to what the engine reaches.
 */
const SCRIPT = `mount -t tmpfs tmpfs /run && ip link set lo up && exec dockerd --config-file "$1/daemon.json" --data-root "$2" --exec-root /run/docker \
  --pidfile /run/docker.pid --host "unix://$1/docker.sock" --iptables=false --ip6tables=false --cgroup-parent "$3"`

/**
 * A second Docker engine, with the containerd image store and a BuildKit cache of its own, for one worker of a test: in namespaces of its own, because an engine in
 * the host's network namespace would quarrel with the host's about its bridge. About a second. Needs root on Linux.
 */
export async function startEngine(options: OwnEngineOptions = {}): Promise<OwnEngine> {
  await sweep()
  const dir = await mkdtemp(join(tmpdir(), `bake-engine-${process.pid}-`))
  const dataRoot = options.dataRoot ?? join(dir, 'data')
  const host = `unix://${dir}/docker.sock`
  const cgroup = basename(dir)
  await using undo = new AsyncDisposableStack()
  undo.defer(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }))
  undo.defer(() => removeGroups(cgroup))
  await mkdir(dataRoot, { recursive: true })
  await writeFile(join(dir, 'daemon.json'), JSON.stringify({ features: { 'containerd-snapshotter': true } }))

  const [netns, forwarder] = await Promise.all([holdNetwork(undo), startForwarder()])
  undo.use(forwarder)
  let engine: Child | undefined
  const stop = async (how: 'end' | 'kill' = 'end') => {
    if (how === 'kill' && engine) process.kill(engine.pid, 'SIGKILL')
    await engine?.end()
    engine = undefined
  }
  undo.defer(() => stop())
  const start = async () => {
    const namespaces = ['--mount', '--pid', '--fork', '--mount-proc', '--kill-child']
    const script = ['sh', '-c', SCRIPT, 'sh', dir, dataRoot, cgroup]
    // As bin/setup sets the machine's own engine up: logs are told whole.
    const env = { ...process.env, BUILDKIT_STEP_LOG_MAX_SIZE: '-1', BUILDKIT_STEP_LOG_MAX_SPEED: '-1' }
    engine = spawnChild('nsenter', [`--net=${netns}`, '--', 'unshare', ...namespaces, ...script], { env, graceMs: GRACE_MS })
    await answering(host, engine)
  }
  const reach = async (port: number, shape?: Shape) =>
    void (await forwarder.forward({ netns, port, to: port, ...(shape ? { shape } : {}) }))

  await Promise.all([start(), reachAll(options, reach)])
  const running = undo.move()
  return {
    host,
    dataRoot,
    inside: ['nsenter', `--net=${netns}`, '--'],
    reach,
    stop,
    start,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

async function reachAll({ reach = [], shape }: OwnEngineOptions, one: (port: number, shape?: Shape) => Promise<void>) {
  await Promise.all(reach.map((port) => one(typeof port === 'number' ? port : Number(port.split(':').at(-1)), shape)))
}

/** A process that has a network namespace of its own and nothing else to do; the namespace's path. */
async function holdNetwork(undo: AsyncDisposableStack): Promise<string> {
  const holder = undo.use(spawnChild('unshare', ['--net', '--', 'sleep', 'infinity'], { graceMs: 100 }))
  const path = `/proc/${holder.pid}/ns/net`
  const own = await readlink('/proc/self/ns/net')
  const isOther = async () => (await readlink(path).catch(() => own)) !== own || undefined
  await waitFor(isOther, { what: 'a network namespace', deadlineMs: 5_000, intervalMs: 5 })
  return path
}

async function answering(host: string, engine: Child): Promise<void> {
  let exit: object | undefined
  void engine.exited.then((how) => (exit = how))
  const answers = async () => {
    if (exit) throw new Error(`the engine ended: ${JSON.stringify(exit)}`)
    return new DockerEngine({ DOCKER_HOST: host }).ping().then(
      () => true,
      () => undefined,
    )
  }
  await waitFor(answers, { what: 'an engine of its own', deadlineMs: 60_000, intervalMs: 50 })
}

/** Data of engines whose test was killed: they died with it, their directories stayed. */
async function sweep(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const owner = /^bake-engine-(\d+)-/.exec(name)?.[1]
    if (owner === undefined || isAlive(Number(owner))) continue
    await removeGroups(name)
    await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => {})
  }
}

/** What a killed engine leaves outside of its namespaces: control groups without a process in them. */
async function removeGroups(name: string): Promise<void> {
  const root = '/sys/fs/cgroup'
  const hierarchies = ['.', ...(await readdir(root).catch(() => []))]
  for (const hierarchy of hierarchies) await removeTree(join(root, hierarchy, name))
}

async function removeTree(dir: string): Promise<void> {
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => [])
  for (const entry of entries) if (entry.isDirectory()) await removeTree(join(dir, entry.name))
  await rmdir(dir).catch(() => {})
}
