import { stripVTControlCharacters } from 'node:util'
import type { FleetStatus, QueueStatus, WorkerStatus } from '../jobs/fleet-status.ts'
import { age, duration, size } from './format.ts'
import type { Palette } from './style.ts'
import { type Column, table } from './table.ts'
import { truncate, width } from './width.ts'

export interface StatusView {
  /** Cells of the terminal; undefined for a pipe: nothing is cut. */
  columns: number | undefined
  /** ms since the epoch. */
  now: number
  paint: Palette
}

/** The fleet as lines: workers with what they build, queues with what waits in them, what failed lately. */
export function statusLines(status: FleetStatus, view: StatusView): string[] {
  const { paint } = view
  const lines = [
    headline(status, paint),
    ...status.problems.map((text) => `${paint.yellow('warning:')} ${text}`),
    ...section(workerLines(status, view)),
    ...section(queueLines(status, view)),
    ...section(failureLines(status, view)),
  ]
  // What still doesn't fit is cut without its colours: a cut must not lose the code that ends one.
  const { columns } = view
  if (columns === undefined) return lines
  return lines.map((line) => (width(line) < columns ? line : truncate(stripVTControlCharacters(line), columns - 1)))
}

const section = (lines: string[]): string[] => (lines.length === 0 ? [] : ['', ...lines])
const plural = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`
const sum = (numbers: number[]): number => numbers.reduce((total, n) => total + n, 0)

function headline({ project, aws, serving, workers, queues }: FleetStatus, paint: Palette): string {
  const live = workers.filter(({ state }) => state !== 'lost')
  const waiting = sum(queues.map(({ visible, delayed }) => visible + delayed))
  const busy = `${sum(live.map((worker) => worker.busy))} of ${plural(sum(live.map(({ slots }) => slots)), 'slot')} busy`
  const told = live.length === 0 ? ['no worker'] : [plural(live.length, 'worker'), busy]
  const jobs = `${plural(waiting, 'job')} waiting`
  const idle = !aws && !serving ? ['no host process runs; the next command that needs one starts it'] : []
  return `${paint.bold(project)}  ${[...told, jobs, ...idle].join(', ')}`
}

/** One row per running build; the first of a worker tells of the worker too. */
interface WorkerRow {
  worker: WorkerStatus | undefined
  build: WorkerStatus['running'][number] | undefined
  state: WorkerStatus['state']
}

const STATE_COLOURS = { warming: 'cyan', ready: 'green', draining: 'yellow', ended: 'dim', lost: 'red' } as const
const WARM_NAMES = 4

function workerLines({ workers, queues }: FleetStatus, { columns, now, paint }: StatusView): string[] {
  const rows = workers.flatMap((worker): WorkerRow[] => {
    const [first, ...others] = worker.running
    const { state } = worker
    return [{ worker, build: first, state }, ...others.map((build) => ({ worker: undefined, build, state }))]
  })
  if (rows.length === 0) return []
  const of = (tell: (worker: WorkerStatus) => string) => (row: WorkerRow) => (row.worker === undefined ? '' : tell(row.worker))
  const sharded = queues.some(({ shard }) => shard > 0)
  const all: (Column<WorkerRow> & { drop?: number })[] = [
    { title: 'WORKER', value: of(({ name }) => name), shrink: true, least: 16 },
    {
      title: 'STATE',
      value: of(({ state }) => state),
      paint: (text, row) => paint[STATE_COLOURS[row.state]](text),
    },
    { title: 'SLOTS', value: of(({ busy, slots }) => `${busy}/${slots}`), right: true },
    { title: 'BUILDS', value: (row) => buildText(row, now), shrink: true, least: 22 },
    { title: 'WARM', value: of(warmText), shrink: true, drop: 2 },
    ...(sharded ? [{ title: 'SHARDS', value: of(({ shards }) => shards.join(' ')), drop: 3 }] : []),
    { title: 'DONE', value: of(({ counts }) => String(counts.built + counts.tagged)), right: true, drop: 4 },
    { title: 'FAILED', value: of(({ counts }) => String(counts.failed)), right: true, drop: 5 },
    { title: 'DISK', value: of(({ disk }) => (disk ? `${size(disk.freeBytes)} free` : '')), drop: 1 },
  ]
  return fitting(rows, all, columns, paint)
}

function buildText({ worker, build, state }: WorkerRow, now: number): string {
  if (state === 'lost' && worker?.beatAge !== undefined) return `last seen ${age(now - worker.beatAge * 1000, now)}`
  if (build === undefined) return ''
  const phase = build.phase === undefined ? '' : ` ${build.phase}`
  return `${build.image}${phase} ${duration(Math.max(0, (now - build.since) / 1000))} ${build.build.slice(0, 9)}`
}

function warmText({ warm }: WorkerStatus): string {
  if (warm.length === 0) return '–'
  const names = warm.slice(0, WARM_NAMES).map(({ image }) => image)
  return `${warm.length}: ${names.join(' ')}${warm.length > names.length ? ' …' : ''}`
}

function queueLines({ queues, dead, serving }: FleetStatus, { columns, now, paint }: StatusView): string[] {
  const sharded = queues.some(({ shard }) => shard > 0)
  const filled = queues.filter(({ visible, inFlight, delayed }) => visible + inFlight + delayed > 0)
  const empty = queues.length - filled.length
  const lines =
    filled.length === 0
      ? []
      : fitting(
          filled,
          [
            { title: 'QUEUE', value: ({ lane, shard }: QueueStatus) => (sharded ? `${lane} ${shard}` : lane) },
            { title: 'WAITING', value: ({ visible }) => String(visible), right: true },
            { title: 'IN HAND', value: ({ inFlight }) => (serving ? String(inFlight) : ''), right: true },
            { title: 'LATER', value: ({ delayed }) => (serving ? String(delayed) : ''), right: true, drop: 1 },
            { title: 'OLDEST', value: (queue) => oldestText(queue, now), shrink: true },
          ],
          columns,
          paint,
        )
  if (empty > 0) lines.push(paint.dim(filled.length === 0 ? 'nothing is queued' : `${plural(empty, 'more queue')} empty`))
  if (dead) lines.push(paint.yellow(`${plural(dead, 'job')} in the dead-letter queue`))
  return lines
}

const oldestText = ({ oldest }: QueueStatus, now: number): string =>
  oldest === undefined
    ? ''
    : `${duration(Math.max(0, (now - oldest.askedAt) / 1000))}: ${oldest.image} ${oldest.build.slice(0, 9)}`

function failureLines({ failures }: FleetStatus, { columns, now, paint }: StatusView): string[] {
  if (failures.length === 0) return []
  return fitting(
    failures,
    [
      { title: 'FAILED', value: ({ endedAt }) => age(endedAt, now) },
      { title: 'IMAGE', value: ({ image }) => image, shrink: true },
      { title: 'BUILD', value: ({ build }) => build.slice(0, 9) },
      { title: 'WORKER', value: ({ worker }) => worker ?? '', shrink: true, drop: 1 },
      {
        title: 'WHY',
        value: ({ code, message }) => `${code}: ${message.split('\n', 1)[0]}`,
        shrink: true,
        least: 20,
        paint: paint.red,
      },
    ],
    columns,
    paint,
  )
}

/** A table without those columns that there is no room for, lowest `drop` last. Columns that can be cut are cut before others are left out. */
function fitting<T>(
  rows: readonly T[],
  all: readonly (Column<T> & { drop?: number })[],
  columns: number | undefined,
  paint: Palette,
): string[] {
  const room = columns === undefined ? undefined : columns - 1
  let kept = all
  for (;;) {
    const lines = table(rows, kept, { columns: room, paintTitle: paint.dim })
    const last = Math.max(...kept.map(({ drop = 0 }) => drop))
    if (room === undefined || last === 0 || lines.every((line) => width(line) <= room)) return lines
    kept = kept.filter(({ drop = 0 }) => drop < last)
  }
}
