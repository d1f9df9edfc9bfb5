import type { AmiBase, MachinePlan, Service } from '../../src/ami/machine.ts'
import type { MachineDefinition } from '../../src/config.ts'
import { MOTO_REGION } from './moto.ts'

const NO_OPTIONS: MachineDefinition['ami'] = { regions: [], shareWith: [], protect: false, tags: {} }

export const digestOf = (digit: string): string => `sha256:${digit.repeat(64)}`

export function serviceOf(name: string, more: Partial<Service> = {}): Service {
  const lists = { ports: [], env: {}, envFrom: [], volumes: [], after: [] }
  return {
    ...{ name, image: name, ...lists, restart: 'always', imds: false, proof: { env: {}, with: [], level: 'healthy' } },
    reference: { image: name, repository: `registry.example.com/shop/${name}`, digest: digestOf('a') },
    ...more,
  }
}

interface PlanOptions {
  ami?: Partial<MachineDefinition['ami']>
  definition?: Partial<MachineDefinition>
  base?: Partial<AmiBase>
  services?: Service[]
  release?: string
  inputs?: string
}

/** A machine that is baked on an AMI, as far as the AWS side looks at it. */
export function amiPlan({ ami, definition, base, services = [], release = 'v2', inputs = 'd' }: PlanOptions = {}): MachinePlan {
  return {
    project: 'shop',
    release: { name: release, commit: '1'.repeat(40) },
    definition: {
      base: { ami: { owner: 'amazon', name: 'al2023-*' } },
      instanceType: 't3.small',
      also: [],
      setup: [],
      services,
      ...definition,
      ami: { ...NO_OPTIONS, ...ami },
    },
    architecture: 'amd64',
    base: {
      ...{ kind: 'ami', id: 'ami-0123456789abcdef0', region: MOTO_REGION, name: 'al2023', ownerId: '137112412989' },
      ...{ createdAt: Date.UTC(2026, 9, 1), architecture: 'amd64', rootDevice: '/dev/xvda', virtualBytes: 8 * 2 ** 30 },
      ...base,
    },
    services,
    standIns: [],
    setup: [],
    rendered: { files: [], steps: [], proof: '' },
    inputs: inputs.repeat(64),
  }
}
