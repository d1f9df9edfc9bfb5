import type { StandIn } from '../config.ts'
import { withinSeconds } from '../docker-run.ts'
import { type ImageReference, type MachinePlan, type Service, standInTag } from './machine.ts'
import { healthData } from './service-data.ts'

/** What proof.sh is made of: stand-ins that several services describe alike are one container. */
export function proofData({ services, standIns }: Pick<MachinePlan, 'services' | 'standIns'>) {
  const all = new Map<string, { standIn: StandIn; services: string[] }>()
  for (const { name, proof } of services) {
    for (const standIn of proof.with) {
      const key = JSON.stringify(standIn)
      const known = all.get(key) ?? { standIn, services: [] }
      all.set(key, { standIn, services: [...known.services, name] })
    }
  }
  return {
    standIns: [...all.values()].map((one, index) => ({
      number: index + 1,
      ...standInData(one.standIn, standIns),
      services: one.services,
    })),
    services: services.map(serviceProof),
  }
}

function standInData({ name, image, env, command, health }: StandIn, images: ImageReference[]) {
  const found = images.find((one) => one.image === image)
  if (!found) throw new Error(`stand-in ${name}: image ${image} was not pinned`)
  return {
    name,
    reference: `${found.repository}@${found.digest}`,
    tag: standInTag(found.digest),
    env: Object.entries(env).map(([key, value]) => `--env=${key}=${value}`),
    command: command ?? [],
    health: healthData(health),
    within: withinSeconds(health),
  }
}

const serviceProof = ({ name, envFile, envFrom, imds, proof }: Service) => ({
  name,
  imds,
  started: proof.level === 'started',
  envFile: envFile ?? null,
  envFrom: envFrom.length > 0,
  env: Object.entries(proof.env).map(([key, value]) => `${key}=${value}`),
  hint: `${envFile} is not on the machine: write proof: { env: { … } } for it in bake.yaml, or make it in a script of machine.setup`,
})
