import { expect, test } from 'vitest'
import { bakeEnd, type Made } from '../../src/ami/notice.ts'
import type { BakeRecord, MachineDocument } from '../../src/ami/records.ts'

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
