import type { Health, PortMapping, ServiceDefinition } from '../config.ts'
import { dockerRun, unitName, withinSeconds } from '../docker-run.ts'
import { refused } from '../errors.ts'
import type { Service } from './machine.ts'

/** For docker, before a health check begins to count. */
const START_SECONDS = 30
/** For what is read from AWS before (templates/boot/env-from.py.hbs), and its copy. */
const ENV_FROM_SECONDS = 30
/** What counts as started where there is no check (templates/boot/proof.sh.hbs). */
const STEADY_SECONDS = 20
/** Units of bake's own: `bake-net.service` is no service called net. */
const RESERVED = ['net', 'instance', 'proof', 'swap']

/** A health check as templates take it: exactly one of the kinds is not null, or none, and then the image's own counts, or that the container runs. */
export interface HealthData {
  kind: 'http' | 'https' | 'tcp' | 'command' | 'running'
  http: { address: string; port: number; target: string; host: string } | null
  https: { url: string; scheme: string; port: number; target: string } | null
  tcp: { port: number } | null
  command: { argv: string[] } | null
  running: boolean
}

/** `ports`: of a service, whose tcp port is one of the machine's; it is asked for at the container's own address. */
export function healthData(health: Health | undefined, ports: PortMapping[] = []): HealthData {
  const none = { http: null, https: null, tcp: null, command: null, running: false }
  if (health === undefined || 'own' in health) return { ...none, kind: 'running', running: true }
  if ('command' in health) return { ...none, kind: 'command', command: { argv: health.command } }
  if ('tcp' in health) {
    const port = ports.find(({ host, protocol }) => host === health.tcp && protocol === 'tcp')?.container ?? health.tcp
    return { ...none, kind: 'tcp', tcp: { port } }
  }
  const { url, protocol, hostname, host, port, pathname, search } = parseUrl(health.http)
  const target = `${pathname}${search}`
  if (protocol === 'https:') return { ...none, kind: 'https', https: { url, scheme: 'https', port: Number(port || 443), target } }
  // An address in brackets is one only in a URL.
  return { ...none, kind: 'http', http: { address: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80), target, host } }
}

function parseUrl(text: string) {
  try {
    const { protocol, hostname, host, port, pathname, search, href } = new URL(text)
    return { url: href, protocol, hostname, host, port, pathname, search }
  } catch (cause) {
    throw refused('bad_health_url', `health: ${text} is no URL`, { next: 'correct health.http in bake.yaml', cause })
  }
}

/** What a service's unit and its health check are made of. */
export function serviceData(service: Service, services: Service[]) {
  const { name, restart, after, health, ports, envFrom } = service
  const within = withinSeconds(health)
  return {
    name,
    container: unitName(service),
    unit: `${unitName(service)}.service`,
    ...dockerRun(service),
    after: after.map((other) => `${unitName({ name: other })}.service`),
    // systemd restarts nothing that it was asked to stop.
    restart: restart === 'unless-stopped' ? 'always' : restart,
    health: healthData(health, ports),
    within,
    envFrom,
    startSeconds: within + START_SECONDS + (envFrom.length === 0 ? 0 : ENV_FROM_SECONDS),
    limit: limitSeconds(service, services),
  }
}

/** How long a service may take from the machine's start of services on: with everything that comes before it. */
function limitSeconds({ name, health, after }: ServiceDefinition, services: ServiceDefinition[]): number {
  const before = services.filter((other) => other.name !== name && after.includes(other.name))
  return withinSeconds(health) + STEADY_SECONDS + Math.max(0, ...before.map((other) => limitSeconds(other, services)))
}

/** Host paths and names of volumes that are written to, each once. */
export function volumeData(services: ServiceDefinition[]) {
  const sources = services
    .flatMap(({ volumes }) => volumes.filter((volume) => !volume.endsWith(':ro')))
    .map((volume) => volume.split(':')[0]!)
  return [...new Set(sources)].sort().map((source) => ({ source, how: source.startsWith('/') ? 'cover' : 'volume' }))
}

const hasNul = (value: unknown): boolean =>
  typeof value === 'string'
    ? value.includes('\0')
    : typeof value === 'object' && value !== null && Object.values(value).some(hasNul)

/** Throws service_name_reserved, bad_service_text or bad_health_url (exit 2) for what no machine could run. */
export function checkServices(services: ServiceDefinition[]): void {
  for (const service of services) {
    const { name, envFile = '', volumes, proof } = service
    const next = `correct machine.services.${name} in bake.yaml`
    if (RESERVED.includes(name))
      throw refused('service_name_reserved', `service ${name}: bake-${name}.service is one of bake's own units`, {
        next: 'choose another name',
      })
    const bad = (what: string) => refused('bad_service_text', `service ${name}: ${what}`, { next })
    if (hasNul(service)) throw bad('a NUL character can be in no argument and no variable')
    if ([envFile, ...volumes].some((text) => /[\x00-\x1f\x7f]/.test(text)))
      throw bad('a path holds a line end or another control character')
    // docker-run(1), --env-file: a variable a line, and nothing to quote with.
    const variable = Object.entries(proof.env).find(([, value]) => /[\r\n]/.test(value))
    if (variable) throw bad(`proof.env.${variable[0]} has several lines, which an env file can't hold`)
  }
}
