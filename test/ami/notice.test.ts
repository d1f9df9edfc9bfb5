import { describe, expect, test } from 'vitest'
import { bakeEnd, jobEnd, type Made } from '../../src/ami/notice.ts'
import type { BakeRecord, MachineDocument } from '../../src/ami/records.ts'
import type { BuildRecord } from '../../src/jobs/records.ts'

const BUILD = 'ybr15gj57-3fgtss'
const COMMIT = '1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d'
const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`
const RECORD: BakeRecord = {
  ...{ version: 1, build: BUILD, project: 'shop', release: 'v2', commit: COMMIT, inputs: 'a'.repeat(64), status: 'baked' },
  ...{ owner: `bake-${BUILD}`, leaseMs: 20_000, claim: 0, by: 'ann@laptop' },
  process: { host: 'laptop', boot: 'b', pid: 1, start: 's' } as never,
  startedAt: Date.UTC(2026, 10, 22, 10, 0, 0),
  endedAt: Date.UTC(2026, 10, 22, 10, 4, 5, 500),
}
const AMI = { region: 'us-east-1', id: 'ami-01', snapshots: ['snap-01'] }
const made = (proof: boolean): Made => {
  const document = {
    ...{ architecture: 'arm64', inputs: RECORD.inputs },
    services: [{ service: 'web', image: 'web', repository: 'r/shop/web', digest: DIGEST }],
    ...(proof && { proof: {} }),
  } as unknown as MachineDocument
  const copies = [{ region: 'eu-west-1', id: 'ami-02', snapshots: ['snap-02'] }]
  return { machine: { document, baked: { kind: 'ami', ...AMI, copies } }, launch: { name: 'shop-web', version: 7 } }
}
const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

test('a machine image that was made, to programs and to people', async () => {
  const end = bakeEnd(RECORD, made(true))!
  expect(end).toMatchObject({ event: 'baked', at: RECORD.endedAt, group: 'release-v2' })
  await expect(json(end.notice)).toMatchFileSnapshot('../golden/notice-baked.json')
  await expect(json(end.slack)).toMatchFileSnapshot('../golden/slack-baked.json')
})

test('one that isn’t proven says so', () => {
  const end = bakeEnd(RECORD, made(false))!
  expect(end.notice.data).toMatchObject({ proven: false })
  expect(end.slack.text).toContain('not proven')
})

test('a bake that failed, with its last lines', () => {
  const message = 'rehearse: not every service starts\nweb: failed: <nobody> listens there'
  const failure = { kind: 'ours', code: 'bake_failed', message, exit: 3 } as const
  const end = bakeEnd({ ...RECORD, status: 'failed', failure }, undefined)!
  expect(end.notice).toMatchObject({
    id: `bake_${BUILD}_failed`,
    type: 'machine.failed',
    data: { failure: { message: 'rehearse: not every service starts', lastLines: ['web: failed: <nobody> listens there'] } },
  })
  expect(end.slack.text).toContain('&lt;nobody&gt; listens there')
})

test.each(['running', 'cancelled', 'lost'] as const)('nobody is told of one that is %s', (status) => {
  expect(bakeEnd({ ...RECORD, status }, undefined)).toBeUndefined()
})

describe('a job for a worker', () => {
  const failure = { kind: 'world', code: 'bake_timed_out', message: 'the bake ran for 180 min and was ended', exit: 5 } as const
  const JOB: BuildRecord = {
    ...{ version: 1, build: BUILD, project: 'shop', repository: 'r', config: 'bake.yaml', commit: COMMIT, image: 'machine' },
    ...{ key: RECORD.inputs, priority: 'normal', rebuild: false, status: 'failed', failure, worker: 'i-0abc' },
    ...{ askedAt: RECORD.startedAt - 1000, startedAt: RECORD.startedAt, endedAt: RECORD.startedAt + 90_000 },
    machine: { release: 'v2', variant: 0, by: 'ann@laptop', runs: [] },
  }

  test('that took too long is told of, with who asked and which worker had it', () => {
    const end = jobEnd(JOB)!
    expect(end.notice).toMatchObject({
      id: `bake_${BUILD}_failed`,
      data: { by: 'ann@laptop on worker i-0abc', seconds: 90, failure: { code: 'bake_timed_out' } },
    })
    expect(end.slack.text).toContain('bake_timed_out')
  })

  test('that was cancelled is nobody’s news, nor is a build', () => {
    expect(jobEnd({ ...JOB, status: 'cancelled' })).toBeUndefined()
    const { machine: _, ...build } = JOB
    expect(jobEnd(build)).toBeUndefined()
  })
})
