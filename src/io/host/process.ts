import { readFile, realpath, rm, stat } from 'node:fs/promises'
import { messageOf, refused } from '../../errors.ts'
import { type Control, openControl } from './control.ts'
import { HostLife, type HostOptions } from './life.ts'
import { tryLock } from './lock.ts'
import { type HostInfo, parseInfo, toWire } from './protocol.ts'
import { type HostServices, startServices } from './services.ts'
import { type HostFiles, prepareStateDir, stateDirError, writeAtomic } from './state-dir.ts'

export type { HostOptions } from './life.ts'
export type { HostWorker } from './worker-keeper.ts'

/**
 * The host process of a state directory (docs/design.md §10): queue, registry and a default worker, until nobody needs them any more. Gives
 * `already_running` at once when the directory has a host; then, and when it `ended`, the caller ends the process, whatever may still be open in it.
 * Rejects with what kept it from starting, after writing that to host-error.json for the client that started it. SIGTERM, SIGINT or SIGHUP: finishes
 * its jobs, then ends; a second one: at once.
 */
export async function runHost(options: HostOptions): Promise<'ended' | 'already_running'> {
  // First: a host that starts late, after its project was deleted, must not make the directories anew.
  const root = await realpath(options.root).catch((cause: unknown) => {
    throw refused('project_missing', `there is no project directory ${options.root}`, { ids: { project: options.root }, cause })
  })
  const files = await prepareStateDir(options.stateDir)
  const lock = await tryLock(files.lock).catch((error: unknown) => reportAndThrow(error, files))
  if (lock === undefined) return 'already_running'
  let control: Control | undefined
  await using undo = new AsyncDisposableStack()
  // The connections end last: whoever waits for this host's end finds the lock free then.
  undo.defer(() => control?.end())
  undo.defer(() => lock.release())
  try {
    const problem = (text: string) => {
      log(text)
      control?.tellAll(text)
    }
    const life = new HostLife({ ...options, root }, { log, problem })
    undo.use(signals(life))
    const services = undo.use(await startServices({ files, root, needsRegistry: options.needsRegistry, onProblem: problem }))
    control = await openControl(life)
    life.open(services, control)
    await announce(files, root, services, control, options.version)
    undo.use(await watchStateDir(files, life))
    log(`ready: queue ${services.queueEndpoint}, registry ${services.registry() ?? 'not needed'}`)
    await life.ended
    log('ending')
    await withdraw(files)
    control.close()
  } catch (error) {
    return await reportAndThrow(error, files)
  }
  return 'ended'
}

/** Often enough that a test's throw-away directory leaves no host for long. */
const WATCH_INTERVAL_MS = 1_000

const log = (text: string) => void process.stderr.write(`${new Date().toISOString()} host ${process.pid}: ${text}\n`)

async function announce(
  files: HostFiles,
  root: string,
  services: HostServices,
  control: Control,
  version: string,
): Promise<void> {
  const registry = services.registry()
  const info: HostInfo = {
    pid: process.pid,
    port: control.port,
    token: control.token,
    queueEndpoint: services.queueEndpoint,
    ...(registry !== undefined && { registry }),
    version,
    root,
  }
  await rm(files.error, { force: true })
  await writeAtomic(files.info, `${JSON.stringify(info)}\n`)
}

/** Unless another host has taken over a state directory that was made anew. */
async function withdraw(files: HostFiles): Promise<void> {
  const info = parseInfo(await readFile(files.info, 'utf8').catch(() => ''))
  if (info?.pid === process.pid) await rm(files.info, { force: true })
}

/** Whoever deletes the state directory, or makes it anew, has no use for this host: it would serve what nobody can find. */
async function watchStateDir(files: HostFiles, life: HostLife): Promise<Disposable> {
  const inode = () =>
    stat(files.lock).then(
      ({ ino }) => ino,
      () => undefined,
    )
  const ours = await inode()
  const timer = setInterval(async () => {
    if ((await inode()) === ours) return
    log('the state directory is gone')
    life.abandon()
  }, WATCH_INTERVAL_MS)
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

async function reportAndThrow(error: unknown, files: HostFiles): Promise<never> {
  const known = stateDirError(error, files.dir)
  log(messageOf(known))
  await writeAtomic(files.error, JSON.stringify({ pid: process.pid, atMs: Date.now(), error: toWire(known) })).catch(() => {})
  throw known
}

function signals(life: HostLife): Disposable {
  const names = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const
  const onSignal = () => life.signalled()
  for (const name of names) process.on(name, onSignal)
  return {
    [Symbol.dispose]() {
      for (const name of names) process.off(name, onSignal)
    },
  }
}
