import { describe, expect, test } from 'vitest'
import type { NotifyDefinition } from '../../src/config.ts'
import { noticeOf, wants } from '../../src/jobs/notify.ts'
import { slackMessage } from '../../src/jobs/notify-slack.ts'
import type { BuildRecord } from '../../src/jobs/records.ts'

const BUILT: BuildRecord = {
  version: 1,
  build: 'ybr15gj57-3fgtss',
  project: 'shop',
  repository: 'git@github.com:acme/shop.git',
  config: 'bake.yaml',
  commit: '1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d',
  image: 'web',
  key: 'a'.repeat(64),
  branch: 'main',
  priority: 'normal',
  rebuild: false,
  status: 'built',
  askedAt: Date.UTC(2026, 10, 21, 10, 0, 0),
  startedAt: Date.UTC(2026, 10, 21, 10, 0, 2),
  endedAt: Date.UTC(2026, 10, 21, 10, 1, 14, 500),
  worker: 'ip-10-0-3-7',
  claim: 0,
  reference: `123456789012.dkr.ecr.us-east-1.amazonaws.com/shop/web@sha256:${'0123456789abcdef'.repeat(4)}`,
  digest: `sha256:${'0123456789abcdef'.repeat(4)}`,
  tag: 'sha-1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d',
  sizeBytes: 101_000_000,
}
const { reference: _, digest: __, tag: ___, sizeBytes: ____, ...NO_IMAGE } = BUILT
const FAILED: BuildRecord = {
  ...NO_IMAGE,
  branch: 'fix/<b>&`x`',
  status: 'failed',
  failure: {
    kind: 'user',
    code: 'dockerfile_failed',
    message: `step RUN npm test failed with exit code 1\n\n> test\n> node --test\n\`\`\` & <b>\n${'x'.repeat(500)}\n1 of 7 failed`,
    next: 'correct it',
    exit: 3,
  },
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

describe('what is told', () => {
  test('a built image, to programs and to people', async () => {
    await expect(json(noticeOf(BUILT))).toMatchFileSnapshot('../golden/notice-built.json')
    await expect(json(slackMessage(BUILT))).toMatchFileSnapshot('../golden/slack-built.json')
  })

  test('a failed one, with the step’s last lines clipped and nothing that Slack reads as markup', async () => {
    await expect(json(noticeOf(FAILED))).toMatchFileSnapshot('../golden/notice-failed.json')
    await expect(json(slackMessage(FAILED))).toMatchFileSnapshot('../golden/slack-failed.json')
  })

  test('a log as long as can be stays within what Slack takes', () => {
    const lines = Array.from({ length: 1000 }, (_, n) => `${n} ${'<&>'.repeat(100)}`)
    const record = { ...FAILED, failure: { ...FAILED.failure!, message: ['it failed', ...lines].join('\n') } }
    const { text, blocks } = slackMessage(record)
    for (const block of blocks as { text?: { text: string } }[]) expect(block.text?.text.length ?? 0).toBeLessThanOrEqual(3000)
    expect(text.length).toBeLessThan(10_000)
    expect(text).toContain('999 ')
    expect(json(noticeOf(record)).length).toBeLessThan(20_000)
  })

  test('ends without a branch, a start or an image', () => {
    const { branch, startedAt, worker, endedAt, ...rest } = NO_IMAGE
    for (const status of ['tagged', 'cancelled', 'superseded', 'failed'] as const) {
      const record: BuildRecord = { ...rest, status }
      expect(JSON.stringify([slackMessage(record), noticeOf(record)])).not.toMatch(/undefined|NaN|null/)
    }
  })

  test('the same end has the same id, another end another one, and no id a full stop', () => {
    expect(noticeOf(BUILT).id).toBe(noticeOf({ ...BUILT, worker: 'another' }).id)
    expect(noticeOf(BUILT).id).not.toBe(noticeOf(FAILED).id)
    expect(noticeOf(BUILT).id).not.toContain('.')
  })
})

describe('who is told', () => {
  const hook = (more: Partial<NotifyDefinition>): NotifyDefinition => ({
    to: { slack: { env: 'X' } },
    on: ['built', 'failed'],
    images: [],
    branches: [],
    ...more,
  })

  test.each<[string, Partial<NotifyDefinition>, Partial<BuildRecord>, boolean]>([
    ['of an event that is listed', {}, {}, true],
    ['not of another', { on: ['failed'] }, {}, false],
    ['not of what was only tagged', {}, { status: 'tagged' }, false],
    ['of an image that is listed', { images: ['jobs', 'web'] }, {}, true],
    ['not of another image', { images: ['jobs'] }, {}, false],
    ['of a branch that is listed', { branches: ['main'] }, {}, true],
    ['not of one that only begins so', { branches: ['main'] }, { branch: 'main2' }, false],
    ['of one that a star fits', { branches: ['release/*'] }, { branch: 'release/1/x' }, true],
    ['not of one that it does not', { branches: ['release/*'] }, { branch: 'prerelease/1' }, false],
    ['of one that two stars fit', { branches: ['*fix*'] }, { branch: 'a/fix' }, true],
    ['not where the ends of a pattern overlap', { branches: ['ab*ba'] }, { branch: 'aba' }, false],
    ['not where the middle overlaps the end', { branches: ['a*bc*c'] }, { branch: 'abc' }, false],
    ['of any branch and none without branches:', {}, { branch: undefined }, true],
    ['not of a build without a branch where branches are listed', { branches: ['*'] }, { branch: undefined }, false],
  ])('%s', (_name, definition, record, expected) => {
    expect(wants(hook(definition), { ...BUILT, ...record } as BuildRecord)).toBe(expected)
  })

  test('a pattern of many stars takes no time', () => {
    const started = performance.now()
    expect(wants(hook({ branches: [`${'*a'.repeat(60)}b`] }), { ...BUILT, branch: 'a'.repeat(200) })).toBe(false)
    expect(performance.now() - started).toBeLessThan(1_000)
  })
})
