import type { AskedForImages } from '../context/asker.ts'
import { BakeError, type ExitCode } from '../errors.ts'
import { interrupted } from './signals.ts'

export interface ImageReport {
  /** stdout without --json. */
  lines: string[]
  /** The --json document, without its version. */
  document: object
  error?: BakeError
}

/** One `<repository>@sha256:<hex>` line per image that there is, and the error that decides the exit code: the gravest of the images'. */
export function reportImages({ commit, branch, outcomes, detached }: AskedForImages): ImageReport {
  const lines = outcomes.flatMap(
    ({ build, outcome }) => outcome?.reference ?? (outcome === undefined && !detached && build ? [build] : []),
  )
  const document = {
    commit,
    ...(branch === undefined ? {} : { branch }),
    images: outcomes.map(({ image, build, outcome }) => ({
      image,
      ...(build === undefined ? {} : { build }),
      ...(outcome ?? { status: 'queued' }),
    })),
  }
  if (detached) return { lines, document, error: detachedError(outcomes) }
  const failures = outcomes.flatMap(({ image, build, outcome }) => (outcome?.error ? [{ image, build, ...outcome.error }] : []))
  if (failures.length === 0) return { lines, document }
  const gravest = failures.find((failure) => failure.exit === 1) ?? failures[0]!
  const names = failures.map((failure) => failure.image).join(', ')
  const error = new BakeError(
    'user',
    gravest.exit as ExitCode,
    gravest.code,
    failures.length === 1 ? `${names}: ${gravest.message}` : `${failures.length} images failed: ${names}`,
    {
      next: gravest.next ?? `bake logs ${gravest.build}`,
      ids: Object.fromEntries(failures.flatMap(({ image, build }) => (build === undefined ? [] : [[image, build]]))),
    },
  )
  return { lines, document, error }
}

/** What --dry-run prints: the plan as data, image by image. */
export function reportPlans({ commit, branch, plans }: AskedForImages): ImageReport {
  const images = plans.map(({ image, key, action, reason, pins, target, published }) => ({
    image,
    action,
    reason,
    key,
    target: `${target.host}/${target.path}`,
    pins,
    ...published,
  }))
  const lines = images.map(
    ({ image, action, reason, key }) =>
      `${image}  ${{ none: 'nothing to do', tag: 'tag', build: 'build' }[action]}: ${reason}  (key ${key.slice(0, 12)})`,
  )
  return { lines, document: { commit, ...(branch === undefined ? {} : { branch }), images } }
}

function detachedError(outcomes: AskedForImages['outcomes']): BakeError {
  const open = outcomes.flatMap(({ build, outcome }) => (build !== undefined && outcome === undefined ? [build] : []))
  const many = open.length > 1
  return interrupted(`detached; ${many ? `${open.length} builds go on` : 'the build goes on'}`, {
    next: `bake logs ${open[0]} --follow    to watch ${many ? 'one' : 'it'} again\n      bake cancel ${open.join(' ')}    to stop ${many ? 'them' : 'it'}`,
  })
}
