import type { Definition } from './definition.ts'
import type { SourceDocument } from './document.ts'
import { compact, given, order, variablesOf, wordsOf } from './plain.ts'
import { normalPath, parseDuration, parsePort, parseSize } from './syntax.ts'
import type { Health, MachineDefinition, MachineVariant, Rolling, ServiceDefinition, StackDefinition, StandIn } from './types.ts'

type RawMachine = NonNullable<Definition['machine']>
type RawService = NonNullable<RawMachine['services']>[string]
type RawStack = NonNullable<Definition['stacks']>[string]

export const resolveMachine = (raw: RawMachine, document: SourceDocument): MachineDefinition =>
  compact<MachineDefinition>({
    ...resolveOne(raw),
    also: (raw.also ?? []).map(resolveOne),
    baker: raw.baker,
    templates: given(raw.templates, normalPath),
    setup: (raw.setup ?? []).map((script) => normalPath(script)),
    ami: resolveAmi(raw.ami ?? {}),
    services: order(raw.services ?? {}, document.keysAt(['machine', 'services'])).map(([name, service]) =>
      resolveService(name, service),
    ),
  })

const resolveOne = (raw: NonNullable<RawMachine['also']>[number]) =>
  compact<MachineVariant>({
    base: raw.base.ami === undefined ? { disk: raw.base.disk! } : { ami: raw.base.ami },
    instanceType: raw.instance_type,
    launchTemplate: raw.launch_template,
  })

function resolveAmi(raw: NonNullable<RawMachine['ami']>): MachineDefinition['ami'] {
  return compact<MachineDefinition['ami']>({
    regions: raw.regions ?? [],
    shareWith: raw.share_with ?? [],
    kmsKey: raw.kms_key,
    deprecateAfterSeconds: given(raw.deprecate_after, parseDuration),
    protect: raw.protect ?? false,
    volume:
      raw.volume &&
      compact<NonNullable<MachineDefinition['ami']['volume']>>({
        sizeBytes: given(raw.volume.size, parseSize),
        type: raw.volume.type,
        iops: raw.volume.iops,
        throughputMiBs: raw.volume.throughput,
      }),
    bootMode: raw.boot_mode,
    tags: variablesOf(raw.tags),
  })
}

function resolveService(name: string, raw: RawService): ServiceDefinition {
  return compact<ServiceDefinition>({
    name,
    image: raw.image,
    command: wordsOf(raw.command),
    ports: (raw.ports ?? []).map((text) => parsePort(text)!),
    env: variablesOf(raw.env),
    envFile: raw.env_file,
    envFrom: raw.env_from ?? [],
    user: raw.user === undefined ? undefined : String(raw.user),
    volumes: raw.volumes ?? [],
    memoryBytes: given(raw.memory, parseSize),
    cpus: raw.cpus,
    restart: raw.restart ?? 'always',
    after: raw.after ?? [],
    log: raw.log && { driver: raw.log.driver, options: variablesOf(raw.log.options) },
    imds: raw.imds ?? false,
    health: resolveHealth(raw.health),
    proof: {
      env: variablesOf(raw.proof?.env),
      with: Object.entries(raw.proof?.with ?? {}).map(([other, stand]) =>
        compact<StandIn>({
          name: other,
          image: stand.image,
          env: variablesOf(stand.env),
          command: wordsOf(stand.command),
          health: resolveHealth(stand.health),
        }),
      ),
      level: raw.proof?.level ?? 'healthy',
    },
  })
}

function resolveHealth(raw: RawService['health']): Health | undefined {
  if (raw === undefined) return undefined
  const within = raw.within === undefined ? {} : { withinSeconds: parseDuration(raw.within) }
  if (raw.http !== undefined) return { http: raw.http, ...within }
  if (raw.tcp !== undefined) return { tcp: raw.tcp, ...within }
  const command = wordsOf(raw.command)
  return command === undefined ? { own: true, ...within } : { command, ...within }
}

export function resolveStack(name: string, raw: RawStack): StackDefinition {
  const where: StackDefinition['where'] =
    raw.targets === undefined
      ? raw.autoscaling_group === undefined
        ? { local: true }
        : { autoscalingGroup: raw.autoscaling_group, rolling: resolveRolling(raw.rolling ?? {}) }
      : { targets: Object.fromEntries(Object.entries(raw.targets).map(([key, value]) => [key, [value].flat().map(String)])) }
  const migrate = raw.hooks?.migrate
  return compact<StackDefinition>({
    name,
    where,
    swappable: raw.swappable,
    migrate: migrate && { service: migrate.service, command: wordsOf(migrate.command)! },
  })
}

function resolveRolling(raw: NonNullable<RawStack['rolling']>): Rolling {
  const seconds = (text: string | undefined) => (text === undefined ? undefined : parseDuration(text))
  return compact<Rolling>({
    minHealthy: raw.min_healthy ?? 100,
    maxHealthy: raw.max_healthy ?? 110,
    warmupSeconds: seconds(raw.warmup),
    bakeSeconds: seconds(raw.bake_time),
    checkpoints: raw.checkpoints ?? [],
    checkpointSeconds: seconds(raw.checkpoint_delay),
    alarms: raw.alarms ?? [],
    skipMatching: raw.skip_matching ?? true,
  })
}
