import { findCycle } from './cycle.ts'
import type { SourceDocument } from './document.ts'
import { healthKinds } from './machine-definition.ts'
import { notifyKinds, RELEASE_EVENTS } from './notify-definition.ts'
import { stackKinds } from './stack-definition.ts'
import { nearest } from './suggest.ts'
import { parseDuration, parsePort } from './syntax.ts'
import type { ConfigProblem } from './types.ts'

type Table = Record<string, unknown>
const table = (value: unknown): Table =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Table) : {}
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])

/** The repository path that build caches live under. */
const RESERVED_IMAGE = 'bake-cache'

/**
 * What single settings may say but not together. Works on values that the definition may have refused already, so that everything is told at
 * once: whatever has the wrong type is passed over here.
 */
export function contradictions(document: SourceDocument): ConfigProblem[] {
  const root = table(document.value)
  const problems: ConfigProblem[] = []
  const report: Report = (path, message, suggestion) => {
    problems.push({
      line: document.lineOf(path),
      path: path.join('.'),
      message,
      ...(suggestion === undefined ? {} : { suggestion }),
    })
  }
  const images = Object.keys(table(root.images))
  if (root.aws !== undefined) {
    for (const needed of ['repository', 'registry'])
      if (root[needed] === undefined) report(['aws'], `needs ${needed}: at the top, because workers elsewhere share it`)
  }
  checkImages(table(root.images), report)
  checkMachine(table(root.machine), images, report)
  const services = Object.keys(table(table(root.machine).services))
  for (const [name, value] of Object.entries(table(root.stacks))) checkStack(['stacks', name], table(value), services, report)
  list(root.notify).forEach((value, at) => {
    checkNotify(['notify', String(at)], table(value), images, report)
  })
  return problems
}

type Report = (path: string[], message: string, suggestion?: string) => void

function checkImages(images: Table, report: Report): void {
  for (const [name, value] of Object.entries(images)) {
    if (name === RESERVED_IMAGE) report(['images', name], 'is reserved: build caches live under this name')
    const image = table(value)
    repeated(list(image.platforms), (at) => report(['images', name, 'platforms', String(at)], 'is there twice'))
    repeated(list(image.ssh), (at) => report(['images', name, 'ssh', String(at)], 'is there twice'))
    const ids = Array.isArray(image.secrets)
      ? image.secrets.map((secret) => (typeof secret === 'string' ? secret : table(secret).id))
      : Object.keys(table(image.secrets))
    repeated(
      ids.map((id) =>
        String(id)
          .toUpperCase()
          .replace(/[^A-Z0-9]/g, '_'),
      ),
      (at) =>
        report(
          ['images', name, 'secrets', String(at)],
          `${ids[at]} is there twice: its value comes from the same variable as another one's`,
        ),
    )
    const args = Array.isArray(image.args) ? image.args.map((arg) => String(arg).split('=')[0]!) : Object.keys(table(image.args))
    if (args.includes('BUILDKIT_SYNTAX'))
      report(
        ['images', name, 'args', 'BUILDKIT_SYNTAX'],
        'must not be an argument: name the frontend in the Dockerfile, # syntax=…, where it is pinned',
      )
  }
}

function checkMachine(machine: Table, images: string[], report: Report): void {
  const also = list(machine.also).map((one, index) => ({ at: ['machine', 'also', String(index)], one: table(one) }))
  for (const { at, one } of [{ at: ['machine'], one: machine }, ...also])
    if (one.base !== undefined) exactlyOne([...at, 'base'], table(one.base), ['ami', 'disk'], report)
  const services = table(machine.services)
  const names = Object.keys(services)
  const taken = new Map<string, string>()
  for (const [name, value] of Object.entries(services)) {
    const at = ['machine', 'services', name]
    const service = table(value)
    if (typeof service.image === 'string' && !images.includes(service.image))
      report([...at, 'image'], `there is no image ${JSON.stringify(service.image)} in images`, nearest(service.image, images))
    checkHealth([...at, 'health'], service.health, report)
    for (const [other, stand] of Object.entries(table(table(service.proof).with)))
      checkHealth([...at, 'proof', 'with', other, 'health'], table(stand).health, report)
    list(service.ports).forEach((text, index) => {
      const port = typeof text === 'string' ? parsePort(text) : undefined
      if (port === undefined) return
      const key = `${port.host}/${port.protocol}`
      const owner = taken.get(key)
      if (owner !== undefined) report([...at, 'ports', String(index)], `host port ${key} is taken by ${owner} already`)
      taken.set(key, name)
    })
    list(service.after).forEach((other, index) => {
      if (typeof other === 'string' && !names.includes(other))
        report([...at, 'after', String(index)], `there is no service ${JSON.stringify(other)}`, nearest(other, names))
    })
  }
  const cycle = findCycle(new Map(names.map((name) => [name, list(table(services[name]).after).map(String)])))
  if (cycle !== undefined) report(['machine', 'services', cycle[0]!, 'after'], `goes round in a circle: ${cycle.join(' → ')}`)
}

function checkStack(path: string[], stack: Table, services: string[], report: Report): void {
  exactlyOne(path, stack, stackKinds, report)
  if (stack.rolling !== undefined) checkRolling([...path, 'rolling'], table(stack.rolling), stack, report)
  const service = table(table(stack.hooks).migrate).service
  if (typeof service === 'string' && !services.includes(service))
    report(
      [...path, 'hooks', 'migrate', 'service'],
      `there is no service ${JSON.stringify(service)} in machine.services`,
      nearest(service, services),
    )
}

const MAX_BAKE_SECONDS = 172_800
/** What isn't a time is told elsewhere. */
const seconds = (text: string): number => (/^(?:[0-9]+[wdhms])+$/.test(text) ? parseDuration(text) : 0)

/** https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html */
function checkRolling(path: string[], rolling: Table, stack: Table, report: Report): void {
  if (stack.autoscaling_group === undefined) report(path, 'is for stacks with autoscaling_group only')
  const { min_healthy: min = 100, max_healthy: max = 110 } = rolling
  if (Number(max) - Number(min) > 100) report([...path, 'max_healthy'], `must be at most 100 above min_healthy, ${String(min)}`)
  if (typeof rolling.bake_time === 'string' && seconds(rolling.bake_time) > MAX_BAKE_SECONDS)
    report([...path, 'bake_time'], 'must be at most 2d')
  const points = list(rolling.checkpoints).map(Number)
  if (points.some((point, index) => index > 0 && point <= points[index - 1]!)) report([...path, 'checkpoints'], 'must ascend')
  else if (points.length > 0 && points.at(-1) !== 100)
    report([...path, 'checkpoints'], 'must end with 100, or the rest is never replaced')
  if (points.length === 0 && rolling.checkpoint_delay !== undefined) report([...path, 'checkpoint_delay'], 'needs checkpoints')
}

function checkNotify(path: string[], notify: Table, images: string[], report: Report): void {
  exactlyOne(path, notify, notifyKinds, report)
  const signed = notify.webhook !== undefined || notify.webhook_env !== undefined
  if (signed && notify.secret_env === undefined)
    report(path, 'needs secret_env: whoever gets a webhook must be able to check that it is from here')
  if (!signed && notify.secret_env !== undefined) report([...path, 'secret_env'], 'is for webhook and webhook_env only')
  const release = list(notify.on).find((event) => RELEASE_EVENTS.some((each) => each === event))
  const narrow = ['images', 'branches'].find((key) => notify[key] !== undefined)
  if (release !== undefined && narrow !== undefined)
    report([...path, narrow], `is for builds only, and ${String(release)} is of releases: write an entry of its own for that`)
  list(notify.images).forEach((image, at) => {
    if (typeof image === 'string' && !images.includes(image))
      report([...path, 'images', String(at)], `there is no image ${JSON.stringify(image)} in images`, nearest(image, images))
  })
}

/** `within` alone: more time for the image's own check. */
function checkHealth(path: string[], health: unknown, report: Report): void {
  if (health === undefined) return
  const given = table(health)
  if (given.within === undefined || healthKinds.some((kind) => given[kind] !== undefined))
    exactlyOne(path, given, healthKinds, report)
}

function exactlyOne(path: string[], value: Table, kinds: readonly string[], report: Report): void {
  const there = kinds.filter((kind) => value[kind] !== undefined)
  if (there.length === 0) report(path, `must have one of ${kinds.join(', ')}`)
  if (there.length > 1) report([...path, there[1]!], `must have only one of ${kinds.join(', ')}, not ${there.join(' and ')}`)
}

/** Calls `found` with the index of each value that an earlier one equals. */
function repeated(values: unknown[], found: (index: number) => void): void {
  const seen = new Set<unknown>()
  values.forEach((value, index) => {
    if (seen.has(value)) found(index)
    seen.add(value)
  })
}
