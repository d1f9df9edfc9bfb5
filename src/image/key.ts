import type { Pin } from '../jobs/job.ts'
import { sha256 } from '../names.ts'
import type { ImageInputs } from './inputs.ts'
import { KEY_SCHEMA } from './key-schema.ts'

export interface KeyOptions {
  /** Where the image goes: `host/path`. */
  repository: string
  pins: readonly Pin[]
  /** When it was first asked for, ms since the epoch: decides the period of `max_age`. */
  nowMs: number
}

/**
 * The image key (64 hex digits): SHA-256 of the canonical JSON of all that decides the image's content (docs/design.md §7). Of secrets and ssh only ids count.
 * A pin's `local` doesn't: the same digest is the same image, wherever it was found.
 */
export function imageKey(inputs: ImageInputs, { repository, pins, nowMs }: KeyOptions): string {
  const { maxAgeSeconds } = inputs
  return sha256(
    canonical({
      schema: KEY_SCHEMA,
      repository,
      context: inputs.contextTree,
      dockerfile: inputs.dockerfileBlob,
      dockerignore: inputs.dockerignoreBlob,
      // Their patterns count from their own directories, so where the contexts lie matters only then.
      attributes: inputs.attributes.map(({ path, blob }) => [path, blob]).sort(byText),
      paths: inputs.attributes.length > 0 ? { ...inputs.contextPaths, '': inputs.contextPath } : undefined,
      contexts: inputs.contexts,
      args: inputs.args,
      target: inputs.target,
      platforms: [...inputs.platforms].sort(),
      network: inputs.network === 'default' ? undefined : inputs.network,
      secrets: [...inputs.secrets].sort(),
      ssh: [...inputs.ssh].sort(),
      submodules: inputs.submodules,
      lfs: inputs.lfs,
      attest: inputs.attest,
      pins: pins.map(({ reference, digest }) => [reference, digest]).sort(byText),
      maxAge: maxAgeSeconds === undefined ? undefined : [maxAgeSeconds, Math.floor(nowMs / 1000 / maxAgeSeconds)],
    }),
  )
}

const byText = (a: readonly (string | undefined)[], b: readonly (string | undefined)[]): number => {
  const [left, right] = [a.join('\0'), b.join('\0')]
  return left < right ? -1 : left > right ? 1 : 0
}

/** JSON with sorted names, without undefined ones: one text for one value. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const fields = Object.entries(value).filter(([, field]) => field !== undefined)
  fields.sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`).join(',')}}`
}
