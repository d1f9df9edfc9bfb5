import { z } from 'zod'
import { name } from './fields.ts'
import { queueFault, webhookFault } from './syntax-notify.ts'

/** The definition of `notify:`. What its settings must agree on is in contradictions.ts. */

/** How a build ends that a worker had (jobs/records.ts). */
const BUILD_EVENTS = ['built', 'tagged', 'failed', 'cancelled', 'superseded'] as const
/** Of machine images and deployments, by whoever bakes or deploys (jobs/announce.ts); `failed` is of these too. */
export const RELEASE_EVENTS = ['baked', 'deployed', 'rolled-back'] as const

export const notifyKinds = ['slack', 'slack_env', 'webhook', 'webhook_env', 'sqs'] as const

const faultless = (fault: (text: string) => string | undefined) =>
  z.string().superRefine((text, ctx) => {
    const message = fault(text)
    if (message !== undefined) ctx.addIssue({ code: 'custom', message })
  })

const variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable')

export const notify = z.strictObject({
  slack: faultless(webhookFault)
    .optional()
    .describe('URL of an incoming webhook of Slack, or of what takes the same (Mattermost, Rocket.Chat).'),
  slack_env: variable
    .optional()
    .describe("Variable that holds such a URL, where bake runs: it is a secret, and bake.yaml isn't."),
  webhook: faultless(webhookFault).optional().describe('URL that gets a signed POST (Standard Webhooks).'),
  webhook_env: variable.optional().describe('Variable that holds such a URL.'),
  secret_env: variable
    .optional()
    .describe('With webhook: variable that holds the secret to sign with, whsec_ and 24 to 64 bytes in base64.'),
  sqs: faultless(queueFault).optional().describe('SQS queue that gets a message, by its URL or ARN.'),
  on: z
    .array(z.enum([...BUILD_EVENTS, ...RELEASE_EVENTS]))
    .min(1)
    .optional()
    .describe('What is told. Default: failed (builds, bakes and deployments). All success of builds: [built, tagged].'),
  images: z.array(name).min(1).optional().describe('Only of these images. Default: all.'),
  branches: z
    .array(z.string().regex(/^[^\s~^:?[\\-][^\s~^:?[\\]*$/, 'must be the name of a branch; * stands for any characters'))
    .min(1)
    .optional()
    .describe(
      'Only of these branches; * stands for any characters, such as release/*. Default: all, and builds without a branch.',
    ),
})
