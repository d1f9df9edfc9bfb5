import type { Definition } from './definition.ts'
import type { SourceDocument } from './document.ts'
import { compact, given, order, variablesOf } from './plain.ts'
import { resolveMachine, resolveStack } from './resolve-machine.ts'
import { normalPath, parseDuration, parseSize } from './syntax.ts'
import type { Config, HookUrl, ImageDefinition, NotifyDefinition, SecretSource } from './types.ts'

/** A valid definition → the Config that the rest of bake works with: defaults filled in, units resolved, lists in the file's order. */
export function resolveConfig(raw: Definition, document: SourceDocument, file: string): Config {
  return compact<Config>({
    file,
    project: raw.project,
    repository: raw.repository,
    aws: raw.aws,
    registry: raw.registry,
    images: order(raw.images, document.keysAt(['images'])).map(([name, image]) => resolveImage(name, image)),
    machine: raw.machine && resolveMachine(raw.machine, document),
    stacks: order(raw.stacks ?? {}, document.keysAt(['stacks'])).map(([name, stack]) => resolveStack(name, stack)),
    fleet: compact<Config['fleet']>({
      shards: raw.fleet?.shards,
      stealAfterSeconds: given(raw.fleet?.steal_after, parseDuration),
      supersede: raw.fleet?.supersede,
      prefix: raw.fleet?.prefix,
    }),
    worker: compact<Config['worker']>({
      slots: raw.worker?.slots,
      bakes: raw.worker?.bakes ?? false,
      repositories: raw.worker?.repositories ?? [],
      disk:
        raw.worker?.disk &&
        compact<NonNullable<Config['worker']['disk']>>({
          cacheBytes: given(raw.worker.disk.cache, parseSize),
          freeBytes: given(raw.worker.disk.free, parseSize),
        }),
    }),
    notify: (raw.notify ?? []).map(resolveNotify),
  })
}

function resolveImage(name: string, raw: Definition['images'][string]): ImageDefinition {
  const image = typeof raw === 'string' ? { context: raw } : (raw ?? {})
  return compact<ImageDefinition>({
    name,
    context: normalPath(image.context ?? '.'),
    dockerfile: normalPath(image.dockerfile ?? 'Dockerfile'),
    target: image.target,
    platforms: image.platforms ?? [],
    args: variablesOf(image.args),
    secrets: resolveSecrets(image.secrets),
    ssh: image.ssh ?? [],
    contexts: Object.fromEntries(
      Object.entries(image.contexts ?? {}).map(([key, source]) => [
        key,
        source.startsWith('docker-image://') ? source : normalPath(source),
      ]),
    ),
    network: image.network,
    submodules: image.submodules ?? false,
    lfs: image.lfs ?? false,
    strict: image.strict ?? false,
    maxAgeSeconds: given(image.max_age, parseDuration),
    attest: image.attest ?? false,
  })
}

type RawSecrets = Exclude<Definition['images'][string], string | null>['secrets']

function resolveSecrets(secrets: RawSecrets): SecretSource[] {
  const all = Array.isArray(secrets)
    ? secrets.map((secret) => (typeof secret === 'string' ? { id: secret } : secret))
    : Object.entries(secrets ?? {}).map(([id, source]) => ({ id, ...source }))
  return all.map((secret) => compact<SecretSource>(secret))
}

function resolveNotify(raw: NonNullable<Definition['notify']>[number]): NotifyDefinition {
  const { on = ['failed'], images = [], branches = [] } = raw
  return { to: notifyTarget(raw), on, images, branches }
}

function notifyTarget(raw: NonNullable<Definition['notify']>[number]): NotifyDefinition['to'] {
  if (raw.sqs !== undefined) return { sqs: raw.sqs }
  const slack = hookUrl(raw.slack, raw.slack_env)
  if (slack) return { slack }
  return { webhook: hookUrl(raw.webhook, raw.webhook_env)!, secretEnv: raw.secret_env! }
}

function hookUrl(url: string | undefined, env: string | undefined): HookUrl | undefined {
  if (url !== undefined) return { url }
  return env === undefined ? undefined : { env }
}
