import type { NotifyDefinition } from '../config.ts'
import type { BuildRecord } from './records.ts'

/** What is told of a build's end, and to whom: pure. docs/notify.md shows it to whoever receives it. */

/** One end of one build. The id is the same however often it is sent: receivers tell repetitions by it. No full stop in it (Standard Webhooks). */
export interface Notice {
  id: string
  /** `image.built` */
  type: string
  /** ISO 8601, when the build ended. */
  timestamp: string
  data: Record<string, unknown>
}

/** A failed step's last lines that are told along. */
const TAIL_LINES = 20
const LINE_CHARS = 200

export function noticeOf(record: BuildRecord): Notice {
  const { build, project, repository, commit, branch, image, status, worker, reference, digest, tag, sizeBytes, supersededBy } =
    record
  const { askedAt, startedAt, endedAt = askedAt, failure } = record
  const told = {
    version: 1,
    build,
    project,
    repository,
    commit,
    branch,
    image,
    status,
    worker,
    reference,
    digest,
    tag,
    sizeBytes,
    supersededBy,
    askedAt: iso(askedAt),
    ...(startedAt === undefined ? {} : { seconds: Math.max(0, endedAt - startedAt) / 1000 }),
    ...(failure && { failure: { ...failure, message: headline(failure.message), lastLines: lastLines(failure.message) } }),
  }
  return {
    id: `bake_${build}_${status}`,
    type: `image.${status}`,
    timestamp: iso(endedAt),
    data: Object.fromEntries(Object.entries(told).filter(([, value]) => value !== undefined)),
  }
}

const iso = (ms: number): string => new Date(ms).toISOString()

/** A failure's first line is its summary; the failed step's last lines follow it. */
export const headline = (message: string): string => clip(message.split('\n', 1)[0] ?? '')

export const lastLines = (message: string): string[] =>
  message
    .split('\n')
    .slice(1)
    .filter((line) => line.trim() !== '')
    .slice(-TAIL_LINES)
    .map(clip)

const clip = (line: string): string => (line.length > LINE_CHARS ? `${line.slice(0, LINE_CHARS - 1)}…` : line)

/** Whether this entry of `notify:` is told of the record's end. */
export function wants({ on, images, branches }: NotifyDefinition, record: BuildRecord): boolean {
  if (!on.some((event) => event === record.status)) return false
  if (images.length > 0 && !images.includes(record.image)) return false
  return branches.length === 0 || branches.some((pattern) => record.branch !== undefined && matches(pattern, record.branch))
}

/** `*` stands for any characters, `/` too. Split, not a RegExp: a pattern of many stars must not take for ever. */
function matches(pattern: string, branch: string): boolean {
  const [first = '', ...rest] = pattern.split('*')
  const last = rest.pop()
  if (last === undefined) return branch === pattern
  if (!branch.startsWith(first) || branch.length < first.length + last.length || !branch.endsWith(last)) return false
  let at = first.length
  for (const part of rest) {
    const found = branch.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return at <= branch.length - last.length
}
