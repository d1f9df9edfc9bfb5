// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what is tested
import type { AmiBase, DiskBase, MachinePlan, Service } from '../../src/ami/machine.ts'
import type { ServiceDefinition } from '../../src/config.ts'

/** Values that somebody will write, and that mean something to every language they pass through. */
export const HOSTILE = [
  `it's "quoted"`,
  'a b  c\t',
  '${HOME} $HOME $$ $(id) `id` $%{x} $${y} %{z}',
  '%n %h 100% %%',
  '{{name}} {{{x}}} {{`y`}} }}',
  'line one\nline two\n',
  'c:\\dir\\n \\',
  'grüße, 世界 🥐',
  '-rf',
  ';',
  '#not a comment',
  '*',
  '~',
  '',
]

export const digest = (digit: string) => `sha256:${digit.repeat(64)}`

export const service = (name: string, more: Partial<Service> = {}): Service => ({
  ...{ name, image: name, ports: [], env: {}, envFrom: [], volumes: [], restart: 'always', after: [], imds: false },
  proof: { env: {}, with: [], level: 'healthy' },
  reference: { image: name, repository: `127.0.0.1:5000/shop/${name}`, digest: digest('a'), sizeBytes: 1e6 },
  ...more,
})

export const disk: DiskBase = {
  ...{ kind: 'disk', path: '/var/lib/base.raw', format: 'raw', sha256: 'd'.repeat(64), virtualBytes: 4e9 },
  ...{ architecture: 'amd64', firmware: 'bios' },
}

export const ami: AmiBase = {
  ...{ kind: 'ami', id: 'ami-0123456789abcdef0', region: 'eu-central-1', name: 'al2023', ownerId: '137112412989', createdAt: 0 },
  ...{ architecture: 'amd64', rootDevice: '/dev/xvda', virtualBytes: 8e9 },
}

export const plan = (services: Service[], more: Partial<MachinePlan> = {}): Omit<MachinePlan, 'rendered'> => ({
  project: 'shop',
  release: { name: 'v2', commit: 'c'.repeat(40) },
  definition: {
    base: { disk: 'base.raw' },
    also: [],
    setup: [],
    ami: { regions: [], shareWith: [], protect: false, tags: {} },
    services: services as ServiceDefinition[],
  },
  architecture: 'amd64',
  base: disk,
  services,
  standIns: [],
  setup: [],
  inputs: 'e'.repeat(64),
  ...more,
})

/** Everything that a service can have. */
export const shop = (words: string[] = ['one', 'two words']): Service[] => [
  service('web', {
    ports: [
      { host: 80, container: 3000, protocol: 'tcp' },
      { address: '127.0.0.1', host: 53, container: 53, protocol: 'udp' },
    ],
    env: { PORT: '3000', MOTTO: words.join('|') },
    envFile: '/etc/shop/web.env',
    user: '1000:1000',
    volumes: ['/var/lib/shop:/data', '/etc/shop:/etc/shop:ro', 'cache:/cache'],
    memoryBytes: 512 * 1024 ** 2,
    cpus: 0.5,
    restart: 'on-failure',
    after: ['jobs'],
    health: { http: 'http://127.0.0.1:80/health?a=1', withinSeconds: 90 },
    proof: {
      env: { TOKEN: words.filter((value) => !value.includes('\n')).join('|') },
      with: [{ name: 'db', image: 'postgres:16', env: { MOTTO: words.join('|') }, command: words, health: { tcp: 5432 } }],
      level: 'healthy',
    },
  }),
  service('jobs', {
    envFrom: ['ssm:/shop/jobs', 'secret:shop/jobs'],
    command: words,
    log: { driver: 'json-file', options: { 'max-size': '10m' } },
    health: { command: ['test', '-e', ...words] },
    reference: { image: 'jobs', repository: 'registry.example.com/shop/jobs', digest: digest('b'), sizeBytes: 2e6 },
    proof: {
      env: {},
      with: [{ name: 'db', image: 'postgres:16', env: { MOTTO: words.join('|') }, command: words, health: { tcp: 5432 } }],
      level: 'started',
    },
  }),
  service('edge', {
    imds: true,
    restart: 'unless-stopped',
    health: { http: 'https://[::1]/' },
    ports: [{ host: 443, container: 8443, protocol: 'tcp' }],
  }),
  service('queue.1', { restart: 'no', health: { tcp: 6380 }, ports: [{ host: 6380, container: 6379, protocol: 'tcp' }] }),
]

export const standIns = [{ image: 'postgres:16', repository: 'docker.io/library/postgres', digest: digest('f') }]
