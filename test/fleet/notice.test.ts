import { expect, test } from 'vitest'
import { Deployment, type DeploymentDocument, type Ended } from '../../src/fleet/deployments.ts'
import { deploymentEnd } from '../../src/fleet/notice.ts'

const launch = (version: number) => ({
  release: `v${version}`,
  commit: String(version).repeat(40),
  image: `ami-${version}`,
  template: { id: 'lt-1', name: 'shop-web', version },
})
const AT = Date.UTC(2026, 10, 22, 10, 0, 0)
const ended = (status: Ended['status'], kind: 'deploy' | 'rollback' = 'deploy', more: object = {}) =>
  deploymentEnd(
    new Deployment(
      3,
      {
        ...{ version: 1, project: 'shop', stack: 'prod.eu', kind, strategy: 'rolling', group: 'shop-web', region: 'eu-west-1' },
        ...{ from: launch(1), to: launch(2), by: 'ann@here', at: AT },
        rolling: { minHealthy: 100, maxHealthy: 110, checkpoints: [], alarms: [], skipMatching: true },
      } satisfies DeploymentDocument,
      [{ version: 1, step: 'ended', status, at: AT + 372_000, by: 'ann@here', ...more }],
    ),
  )!
const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

test('a deployment, to programs and to people', async () => {
  const end = ended('deployed')
  expect(end).toMatchObject({ event: 'deployed', group: 'stack-prod.eu' })
  await expect(json(end.notice)).toMatchFileSnapshot('../golden/notice-deployed.json')
  await expect(json(end.slack)).toMatchFileSnapshot('../golden/slack-deployed.json')
})

test.each<[string, Parameters<typeof ended>, string, string | undefined]>([
  ['a deployment that was taken back', ['rolled-back', 'deploy', { reason: 'alarm <a>' }], 'rolled-back', 'v1'],
  ['a rollback', ['deployed', 'rollback'], 'rolled-back', 'v2'],
  ['a rollback that did not work', ['rolled-back', 'rollback'], 'failed', 'v1'],
  ['one that stopped half-way', ['failed'], 'failed', undefined],
  ['one that somebody cancelled', ['cancelled'], 'failed', undefined],
])('%s', (_, args, event, runs) => {
  const { notice, slack, ...end } = ended(...args)
  expect(end.event).toBe(event)
  expect(notice).toMatchObject({ id: `deployment_prod-eu_3_${event}`, type: `deployment.${event}` })
  expect((notice.data.runs as { release: string } | undefined)?.release).toBe(runs)
  expect(slack.text).not.toContain('<a>')
})

test('one that goes on is not told of', () => {
  const { document } = new Deployment(0, {} as DeploymentDocument)
  expect(deploymentEnd(new Deployment(0, document))).toBeUndefined()
})
