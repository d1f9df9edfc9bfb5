import { imageOf, localRun, type RunnableService, withinSeconds } from '../docker-run.ts'
import { type BakeError, failed, messageOf, refused } from '../errors.ts'
import type { Emit } from '../events.ts'
import { sha256 } from '../names.ts'
import { BEFORE, type Container, type Containers, LABELS, type Network, STOP_SECONDS } from './containers.ts'
import { fault } from './health.ts'
import { removeLeft, startLeft, stopLeft } from './left.ts'
import { inOrder } from './order.ts'

const POLL_MS = 100
const LAST_LINES = 20

export interface SwapWorld {
  project: string
  stack: string
  containers: Containers
  network: Network
  /** A file of this machine, as services' env files may be; undefined when it isn't there. */
  read(path: string): Promise<string | undefined>
  now(): number
  sleep(ms: number, signal: AbortSignal): Promise<void>
  emit: Emit
  signal: AbortSignal
}

export interface Swapped {
  service: string
  /** `<repository>@<digest>` that was asked for, once it runs; absent when it doesn't. */
  image?: string
  /** `unchanged`: it ran already. `kept`: the new one was not well, what ran before runs. `failed`: and nothing ran before. */
  status: 'swapped' | 'unchanged' | 'kept' | 'failed'
  seconds: number
  why?: string
}

/**
 * Replaces containers of a stack on this machine, one service after the other in their order, each back to what it was when the new one isn't well. `atomic`:
 * all of them, when one isn't. What a swap that was killed left half done is undone first. `known`: names of all services that there are; containers of others
 * stop, and go when everything is well. The caller holds the stack's lock.
 */
export async function swapLocal(
  services: RunnableService[],
  { atomic, known }: { atomic: boolean; known?: string[] },
  world: SwapWorld,
): Promise<Swapped[]> {
  await undoInterrupted(services, world)
  const left = await stopLeft(known, world)
  const done: Swapped[] = []
  const replaced: RunnableService[] = []
  let stop = false
  try {
    for (const service of inOrder(services)) {
      if (stop) break
      const swapped = await replace(service, world)
      if (swapped.status === 'swapped') replaced.push(service)
      stop = atomic && swapped.why !== undefined
      done.push(swapped)
      tell(service, swapped, world)
    }
  } catch (error) {
    // Stopped, or the engine fails: what was swapped is well and stays, unless all or nothing was asked for.
    await settle(replaced, atomic, world)
    await startLeft(left, world)
    throw error
  }
  await settle(replaced, stop, world)
  // One of them may be what a service that isn't well was called before.
  if (done.some(({ why }) => why !== undefined)) await startLeft(left, world)
  else await removeLeft(left, world)
  if (!stop) return done
  return Promise.all(
    done.map(async (one) => {
      const service = replaced.find(({ name }) => name === one.service)
      if (!service) return one
      return { ...one, ...(await whatRuns(service, world)), why: 'another service of the stack was not well' }
    }),
  )
}

/** The end of a swap for those that were replaced: back to what was before, or what was before goes. */
async function settle(replaced: RunnableService[], back: boolean, world: SwapWorld): Promise<void> {
  for (const service of replaced.toReversed())
    if (back) await undo(service, world)
    else if (await world.containers.get(nameOf(service, world) + BEFORE))
      await world.containers.remove(nameOf(service, world) + BEFORE)
}

/** Removes all containers of the stack; their names. */
export async function downLocal(world: Pick<SwapWorld, 'project' | 'stack' | 'containers'>): Promise<string[]> {
  const all = await world.containers.list({ [LABELS.project]: world.project, [LABELS.stack]: world.stack })
  for (const { name } of all) await world.containers.remove(name)
  return all.map(({ name }) => name)
}

/** What a failed swap is told as. */
export function swapFailed(stack: string, swapped: Swapped[]): BakeError | undefined {
  const bad = swapped.filter(({ why }) => why !== undefined)
  if (bad.length === 0) return undefined
  const lines = bad.map(
    ({ service, status, why }) => `${service}: ${status === 'kept' ? 'what ran before runs again' : 'nothing runs'}: ${why}`,
  )
  return failed('swap_failed', `stack ${stack}: ${lines.join('\n')}`, { next: 'correct it and swap again' })
}

const nameOf = (service: RunnableService, { project, stack }: Pick<SwapWorld, 'project' | 'stack'>) =>
  `bake-${project}-${stack}-${service.name}`

const isOurs = ({ labels }: Container, wanted: Record<string, string>): boolean =>
  Object.entries(wanted).every(([label, value]) => labels[label] === value)

async function replace(service: RunnableService, world: SwapWorld): Promise<Swapped> {
  const { containers, emit, signal } = world
  const began = world.now()
  const seconds = () => (world.now() - began) / 1000
  const name = nameOf(service, world)
  const image = imageOf(service)
  const variables = service.envFile === undefined ? undefined : await world.read(service.envFile)
  const envFile = service.envFile !== undefined && variables !== undefined ? { envFile: service.envFile } : {}
  const labels = { [LABELS.project]: world.project, [LABELS.stack]: world.stack, [LABELS.service]: service.name }
  const words = localRun(service, { name, labels, ...envFile })
  const run = sha256(JSON.stringify([words, variables])).slice(0, 16)
  const before = await containers.get(name)
  if (before && !isOurs(before, labels))
    throw refused('container_taken', `there is a container ${name} that is not of stack ${world.stack}`, {
      next: `docker rm --force ${name}    if nobody needs it, or call the stack or the service something else`,
      ids: { container: name },
    })
  const policy = service.restart
  // One whose swap was killed before it was seen to be well is none that runs already.
  if (before?.running && before.labels[LABELS.run] === run && (await fault(service, before, world)) === undefined) {
    if (before.restart !== policy) await containers.setRestart(name, policy)
    return { service: service.name, image, status: 'unchanged', seconds: seconds() }
  }
  let [aside, stopped] = [false, false]
  try {
    await containers.pull(image)
    signal.throwIfAborted()
    if (before) {
      stopped = before.running && isExclusive(service)
      if (stopped) await containers.stop(name, STOP_SECONDS)
      await containers.rename(name, name + BEFORE)
    }
    aside = true
    emit({ type: 'notice', level: 'info', text: `${service.name}  starting` })
    await containers.run([...words.options, `--label=${LABELS.run}=${run}`, words.image, ...words.command])
    await untilWell(service, name, world)
    await containers.setRestart(name, policy)
    if (before?.running && !stopped) await containers.stop(name + BEFORE, STOP_SECONDS)
    return { service: service.name, image, status: 'swapped', seconds: seconds() }
  } catch (error) {
    const why = messageOf(error)
    if (aside) await undo(service, world)
    else if (stopped) await containers.start(name).catch(() => {})
    signal.throwIfAborted()
    return { service: service.name, ...(await whatRuns(service, world)), seconds: seconds(), why }
  }
}

/** Two can't have one port of the machine, and should not write to one volume. */
const isExclusive = ({ ports, volumes }: RunnableService): boolean =>
  ports.length > 0 || volumes.some((volume) => !volume.endsWith(':ro'))

/** Throws with the reason and the container's last lines. */
async function untilWell(service: RunnableService, name: string, world: SwapWorld): Promise<void> {
  const within = withinSeconds(service.health)
  const end = world.now() + within * 1000
  let why = 'it has only just started'
  for (;;) {
    const container = await world.containers.get(name)
    if (!container?.running)
      throw new Error(await withOutput(`its container ended with ${container?.exitCode ?? 'no word'}`, name, world))
    const found = await fault(service, container, world)
    if (found === undefined) return
    why = found
    if (world.now() >= end) throw new Error(await withOutput(`not healthy after ${within} s: ${why}`, name, world))
    await world.sleep(POLL_MS, world.signal)
  }
}

async function withOutput(why: string, name: string, { containers }: SwapWorld): Promise<string> {
  const lines = await containers.logs(name, LAST_LINES).catch(() => [])
  return [why, ...lines.map((line) => `  | ${line}`)].join('\n')
}

/** What swaps that were killed left: whoever was there before counts. */
async function undoInterrupted(services: RunnableService[], world: SwapWorld): Promise<void> {
  const all = await world.containers.list({ [LABELS.project]: world.project, [LABELS.stack]: world.stack })
  for (const { name, labels } of all) {
    if (!name.endsWith(BEFORE)) continue
    const service = services.find((one) => one.name === labels[LABELS.service])
    world.emit({ type: 'notice', level: 'warning', text: `${labels[LABELS.service]}  a swap was interrupted: undone first` })
    if (service) await undo(service, world)
    else await putBack(name.slice(0, -BEFORE.length), world.containers)
  }
}

/** Also after a Ctrl-C: until what ran before is well again, or as long as it may take. */
async function undo(service: RunnableService, world: SwapWorld): Promise<void> {
  const name = nameOf(service, world)
  await putBack(name, world.containers)
  if (!(await world.containers.get(name))) return
  await untilWell(service, name, { ...world, signal: new AbortController().signal }).catch((error: unknown) =>
    world.emit({
      type: 'notice',
      level: 'warning',
      text: `${service.name}  what ran before is not well either: ${messageOf(error)}`,
    }),
  )
}

/** The new one goes; what was before it runs again. Nothing of it was changed but its name, so it is as well as it was. */
async function putBack(name: string, containers: Containers): Promise<void> {
  const before = await containers.get(name + BEFORE)
  if (await containers.get(name)) await containers.remove(name)
  if (!before) return
  await containers.rename(name + BEFORE, name)
  if (!before.running) await containers.start(name)
}

async function whatRuns(service: RunnableService, world: SwapWorld): Promise<Pick<Swapped, 'image' | 'status'>> {
  const now: Container | undefined = await world.containers.get(nameOf(service, world))
  return now?.running ? { status: 'kept' } : { status: 'failed' }
}

function tell({ name }: RunnableService, { status, seconds, why }: Swapped, { emit }: SwapWorld): void {
  const text = {
    swapped: `swapped in ${seconds.toFixed(1)} s`,
    unchanged: 'unchanged',
    kept: 'not well: what ran before runs again',
    failed: 'not well, and nothing ran before',
  }[status]
  emit({ type: 'notice', level: why === undefined ? 'info' : 'warning', text: `${name}  ${text}` })
}
