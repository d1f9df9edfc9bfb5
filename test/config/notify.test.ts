import { describe, expect, it } from 'vitest'
import { ConfigError, parseConfig } from '../../src/config.ts'

const notify = (entry: string) => {
  try {
    return parseConfig(`project: p\nimages: { web: ., jobs: jobs }\nnotify:\n  - ${entry}\n`, 'bake.yaml').notify
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
}

describe('notify: in bake.yaml', () => {
  it('tells failures of everything unless told', () => {
    expect(notify('{ slack_env: SLACK_URL }')).toEqual([
      { to: { slack: { env: 'SLACK_URL' } }, on: ['failed'], images: [], branches: [] },
    ])
  })

  it.each([
    ['{ slack: "https://hooks.slack.com/services/T/B/x" }', { slack: { url: 'https://hooks.slack.com/services/T/B/x' } }],
    ['{ slack: "http://localhost:8065/hooks/x" }', { slack: { url: 'http://localhost:8065/hooks/x' } }],
    ['{ webhook: "http://[::1]:1/x", secret_env: S }', { webhook: { url: 'http://[::1]:1/x' }, secretEnv: 'S' }],
    ['{ webhook_env: U, secret_env: S }', { webhook: { env: 'U' }, secretEnv: 'S' }],
    ['{ sqs: "arn:aws-cn:sqs:cn-north-1:123456789012:b.fifo" }', { sqs: 'arn:aws-cn:sqs:cn-north-1:123456789012:b.fifo' }],
    [
      '{ sqs: "https://sqs.us-east-1.amazonaws.com/123456789012/b" }',
      { sqs: 'https://sqs.us-east-1.amazonaws.com/123456789012/b' },
    ],
  ])('takes %s', (entry, to) => {
    expect(notify(entry)).toMatchObject([{ to }])
  })

  it.each([
    ['{ }', /notify\.0: must have one of slack, slack_env, webhook, webhook_env, sqs/],
    ['{ slack_env: A, sqs: "arn:aws:sqs:us-east-1:123456789012:b" }', /must have only one of/],
    ['{ webhook_env: U }', /notify\.0: needs secret_env/],
    ['{ slack_env: U, secret_env: S }', /notify\.0\.secret_env: is for webhook and webhook_env only/],
    ['{ slack_env: U, images: [wbe] }', /there is no image "wbe" in images \(did you mean web\?\)/],
    ['{ slack_env: U, on: [baked], branches: [main] }', /notify\.0\.branches: is for builds only, and baked is of releases/],
    ['{ slack_env: U, on: [built, deployed], images: [web] }', /notify\.0\.images: is for builds only, and deployed/],
    ['{ slack_env: U, on: [failure] }', /on\.0: must be one of built, tagged, failed/],
    ['{ slack_env: U, on: [] }', /must not be empty/],
    ['{ sqs: builds }', /sqs: must be the URL or ARN of an SQS queue/],
    ['{ sqs: "https://example.com/123456789012/b" }', /sqs: must be the URL or ARN/],
    ['{ slack_env: "A B" }', /must be the name of an environment variable/],
  ])('refuses %s', (entry, message) => {
    expect(notify(entry)).toMatch(message)
  })

  it.each(['http://hooks.example.com/SECRET', 'https://u:SECRET@hooks.example.com/x', 'ftp://h/SECRET', 'SECRET'])(
    'refuses the URL %s without repeating it',
    (url) => {
      for (const kind of ['slack', 'webhook']) {
        const message = notify(`{ ${kind}: "${url}"${kind === 'webhook' ? ', secret_env: S' : ''} }`)
        expect(message).toMatch(new RegExp(`notify\\.0\\.${kind}: must be an https:// URL`))
        expect(message).not.toContain('SECRET')
      }
    },
  )
})
