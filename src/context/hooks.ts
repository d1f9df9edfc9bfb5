import { parseQueue, webhookFault } from '../config/syntax-notify.ts'
import type { HookUrl, NotifyDefinition } from '../config.ts'
import { BakeError, refused } from '../errors.ts'
import { sendToQueue } from '../io/notice-queue.ts'
import { parseWebhookSecrets, postWebhook } from '../io/webhook.ts'
import { Redactor } from '../jobs/redact.ts'
import type { Hook, Told } from '../jobs/tell.ts'

/**
 * The entries of `notify:` in the bake.yaml of whoever tells: never those of the commit that is built, which could send what they are told anywhere.
 * Variables are read when they are used, because on one machine a client may hand them over to its worker later.
 */
export const openHooks = (notify: readonly NotifyDefinition[], env: NodeJS.ProcessEnv): Hook[] =>
  notify.map((definition, at) => {
    const name = `notify.${at} (${Object.keys(definition.to)[0]})`
    return { definition, name, send: (told, signal) => send(definition.to, told, env, signal) }
  })

async function send(to: NotifyDefinition['to'], told: Told, env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<void> {
  if ('slack' in to) {
    const url = urlOf(to.slack, env)
    return withoutSecrets([url], () => postWebhook({ url, body: JSON.stringify(told.slack), signal }))
  }
  const { notice, group } = told
  const body = JSON.stringify(notice)
  if ('sqs' in to) {
    const { id, type } = notice
    return sendToQueue({ ...parseQueue(to.sqs)!, id, type, group, body, signal })
  }
  const url = urlOf(to.webhook, env)
  const text = variable(to.secretEnv, env)
  const secrets = parseWebhookSecrets(text)
  if (!secrets)
    throw refused('webhook_secret_invalid', `${to.secretEnv} holds no secret that can sign`, {
      next: `give it whsec_ and 24 to 64 random bytes in base64: echo "whsec_$(openssl rand -base64 32)"`,
    })
  return withoutSecrets([url, text], () => postWebhook({ url, body, signed: { id: notice.id, secrets }, signal }))
}

function urlOf(source: HookUrl, env: NodeJS.ProcessEnv): string {
  if ('url' in source) return source.url
  const url = variable(source.env, env)
  const fault = webhookFault(url)
  if (fault !== undefined) throw refused('webhook_url_invalid', `what ${source.env} holds ${fault}`)
  return url
}

function variable(name: string, env: NodeJS.ProcessEnv): string {
  const value = env[name]?.trim()
  if (value) return value
  throw refused('webhook_variable_unset', `${name} is not set where bake runs`, { next: `set ${name}` })
}

/** What a server answers is shown, and may repeat what it was sent. */
async function withoutSecrets(secrets: string[], run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    if (!(error instanceof BakeError)) throw error
    const paths = secrets.map((secret) => URL.parse(secret)?.pathname.slice(1) ?? secret)
    const { kind, exit, code, next } = error
    const message = new Redactor([...secrets, ...paths]).text(error.message)
    throw new BakeError(kind, exit, code, message, next === undefined ? {} : { next })
  }
}
