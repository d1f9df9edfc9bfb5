import type { End } from '../jobs/announce.ts'
import { headline, lastLines } from '../jobs/notify.ts'
import { code, duration, excerpt, plain, SHORT_COMMIT, slackPost } from '../jobs/notify-slack.ts'
import type { BuildRecord } from '../jobs/records.ts'
import { type BakeRecord, type LaunchVersion, type MachineDocument, nameOf } from './records.ts'
import type { Machine } from './turn.ts'

/** What is told of a bake's end (docs/notify.md): pure. */

/** What it made: absent when it failed. */
export interface Made {
  machine: Pick<Machine, 'document' | 'baked'>
  launch?: LaunchVersion
}

type EndedBake = Pick<
  BakeRecord,
  'build' | 'project' | 'release' | 'commit' | 'by' | 'status' | 'startedAt' | 'endedAt' | 'failure'
>

/** Of a job for a worker that failed; undefined for any other. */
export function jobEnd({ machine, status, askedAt, worker, ...record }: BuildRecord): End | undefined {
  if (!machine || status !== 'failed') return undefined
  const by = worker === undefined ? machine.by : `${machine.by} on worker ${worker}`
  return bakeEnd({ startedAt: askedAt, ...record, release: machine.release, by, status }, undefined)
}

/** Undefined for a bake that goes on, was stopped by its person, or lost its claim. */
export function bakeEnd(record: EndedBake, made: Made | undefined): End | undefined {
  const { build, project, release, commit, by, status, startedAt, endedAt = startedAt, failure } = record
  const done = status === 'baked' ? made : undefined
  if (!done && status !== 'failed') return undefined
  const event = done ? 'baked' : 'failed'
  const seconds = Math.max(0, endedAt - startedAt) / 1000
  return {
    event,
    at: endedAt,
    group: `release-${release}`,
    notice: {
      id: `bake_${build}_${event}`,
      type: `machine.${event}`,
      timestamp: new Date(endedAt).toISOString(),
      data: {
        ...{ version: 1, build, project, release, commit, status: event, by, seconds },
        ...(done && { ...imageOf(done), ...(done.launch && { launchTemplate: done.launch }) }),
        ...(failure && { failure: { ...failure, message: headline(failure.message), lastLines: lastLines(failure.message) } }),
      },
    },
    slack: slackPost({
      summary: `${done ? '✅' : '❌'} *${plain(project)}* release *${plain(release)}* ${done ? 'was baked' : 'could not be baked'} in ${duration(seconds)}: ${code(commit.slice(0, SHORT_COMMIT))}`,
      reason: failure && `${plain(headline(failure.message))} (${failure.code})`,
      log: failure ? excerpt(lastLines(failure.message)) : '',
      details: [
        ...(done ? [code(nameOf(done.machine.baked)), proven(done.machine.document)] : []),
        ...(done?.launch ? [`${plain(done.launch.name)} version ${done.launch.version}`] : []),
        `by ${plain(by)}`,
        code(`bake logs ${build}`),
      ].join(' · '),
    }),
  }
}

const proven = ({ proof }: MachineDocument): string => (proof ? 'proven' : 'not proven')

function imageOf({ machine: { document, baked } }: Made): Record<string, unknown> {
  const copies = baked.kind === 'ami' ? (baked.copies ?? []) : []
  return {
    image: nameOf(baked),
    ...(baked.kind === 'ami' && { region: baked.region }),
    ...(copies.length > 0 && { copies: copies.map(({ region, id }) => ({ region, image: id })) }),
    architecture: document.architecture,
    inputs: document.inputs,
    proven: document.proof !== undefined,
    services: document.services,
  }
}
