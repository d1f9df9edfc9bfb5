import { sha256 } from '../names.ts'
import type { Base, MachinePlan, Rendered, UnrenderedPlan } from './machine.ts'

/** Raised when a baker makes something else of the same rendered files: what was baked before isn't found again then. */
const BAKER_VERSION = 1

/** JSON with sorted keys and without undefined: the same for equal values, however they were put together. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((one) => canonical(one ?? null)).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const fields = Object.entries(value)
    .filter(([, one]) => one !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([name, one]) => `${JSON.stringify(name)}:${canonical(one)}`).join(',')}}`
}

/** What decides a machine image, before its hash is known. */
export type Ingredients = Omit<UnrenderedPlan, 'inputs' | 'release'>

/**
 * Hash of all that decides a machine image (docs/design.md §8). No release name and no date: two releases with equal content share one image. What only
 * the proof needs isn't in it either: see `proofHash`. `rendered`: made without the hash, which the disk's manifest names.
 */
export function inputsHash(plan: Ingredients, rendered: Rendered): string {
  const { definition, services, setup } = plan
  return sha256(
    canonical({
      version: BAKER_VERSION,
      baker: definition.baker ?? 'packer',
      base: baseId(plan.base),
      architecture: plan.architecture,
      images: services.map(({ name, reference }) => [name, reference.digest]),
      files: sorted(rendered.files),
      steps: rendered.steps.map(({ path, text, mode }) => [path, text, mode]),
      packer: rendered.packer,
      setup: setup.map(({ path, text }) => [path, text]),
      ...(plan.base.kind === 'ami' && { registration: registration(plan) }),
    }),
  )
}

/** An AMI is made with these; a disk isn't registered anywhere. */
const registration = ({ definition: { ami } }: Ingredients) => ({
  ...ami,
  regions: [...ami.regions].sort(),
  shareWith: [...ami.shareWith].sort(),
})

const baseId = (base: Base) => (base.kind === 'ami' ? { ami: base.id, region: base.region } : { disk: base.sha256 })

const sorted = (files: Rendered['files']) =>
  files.map(({ path, text, mode }) => [path, text, mode] as const).sort(([a], [b]) => (a < b ? -1 : 1))

/** Hash of what a proof of this plan has to show: a machine image that was proven otherwise is proven again, not baked again. */
export const proofHash = ({ services, standIns }: Pick<MachinePlan, 'services' | 'standIns'>): string =>
  sha256(
    canonical({
      services: services.map(({ name, proof, imds }) => ({ name, proof, imds })),
      standIns: standIns.map(({ image, digest }) => [image, digest]),
    }),
  )
