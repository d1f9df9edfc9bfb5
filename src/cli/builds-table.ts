import { type BuildRecord, ENDED } from '../jobs/records.ts'
import { age, duration, shortCommit, size } from './format.ts'
import type { Palette } from './style.ts'
import { table } from './table.ts'

/** Newest first, a line each. */
export function buildsTable(builds: BuildRecord[], paint: Palette): string {
  const lines = table(
    builds,
    [
      { title: 'BUILD', value: (build) => build.build },
      { title: 'IMAGE', value: (build) => build.image, shrink: true },
      { title: 'COMMIT', value: (build) => shortCommit(build.commit) },
      { title: 'BRANCH', value: (build) => build.branch ?? '', shrink: true },
      { title: 'STATUS', value: statusOf, paint: (text, build) => colour(text, build, paint) },
      { title: 'TOOK', value: took, right: true },
      { title: 'CACHES', value: (build) => build.warmth ?? '' },
      { title: 'ASKED', value: (build) => age(build.askedAt) },
    ],
    { columns: process.stdout.columns, paintTitle: paint.dim },
  )
  return lines.join('\n')
}

/** One build, a fact per line. */
export function buildDetails(build: BuildRecord, paint: Palette): string {
  const facts: [string, string | undefined][] = [
    ['build', build.build],
    ['status', colour(statusOf(build), build, paint)],
    ['image', build.image],
    ['release', build.machine?.release],
    ['asked by', build.machine?.by],
    ['commit', build.commit],
    ['branch', build.branch],
    [build.machine ? 'inputs' : 'key', build.key],
    ['asked', `${new Date(build.askedAt).toISOString()} (${age(build.askedAt)})`],
    ['took', took(build) || undefined],
    ['worker', build.worker],
    ['waits for', build.leader?.build],
    ['reference', build.reference],
    ['tag', build.tag],
    [
      'size',
      build.sizeBytes === undefined
        ? undefined
        : `${size(build.sizeBytes)}${build.pushedBytes === undefined ? '' : `, ${size(build.pushedBytes)} pushed`}`,
    ],
    ['steps', build.steps && `${build.steps.cached} of ${build.steps.total} cached`],
    ['caches', build.warmth],
    ['error', build.failure && `${build.failure.code}: ${build.failure.message}`],
    ['next', build.failure?.next],
  ]
  const told = facts.filter((fact): fact is [string, string] => fact[1] !== undefined)
  return told.map(([name, value]) => `${paint.dim(name.padEnd(10))} ${value.replaceAll('\n', `\n${' '.repeat(11)}`)}`).join('\n')
}

/** A machine image is baked, found or proven where an image is built or tagged. */
const statusOf = ({ machine, status }: BuildRecord): string => machine?.did ?? status

function took(build: BuildRecord): string {
  const from = build.startedAt ?? build.askedAt
  const to = build.endedAt ?? (ENDED.has(build.status) || build.status === 'queued' ? undefined : Date.now())
  return to === undefined ? '' : duration(Math.max(0, (to - from) / 1000))
}

function colour(text: string, build: BuildRecord, paint: Palette): string {
  if (build.status === 'failed') return paint.red(text)
  if (build.status === 'built' || build.status === 'tagged') return paint.green(text)
  return build.status === 'running' ? paint.cyan(text) : text
}
