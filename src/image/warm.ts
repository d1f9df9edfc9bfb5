import { readFile, writeFile } from 'node:fs/promises'
import { unavailable } from '../errors.ts'
import type { BuildEvent } from '../events.ts'
import type { BuildRequest } from '../io/builder.ts'
import type { LatestDocument } from '../jobs/records.ts'
import type { NeededStage } from './dockerfile.ts'
import { verifyJob } from './make.ts'
import { buildRequest, type Place, tagLocalPins } from './request.ts'
import type { ImageWorld } from './world.ts'

/**
 * A RUN that no cache has is work, not warming. A short one ends here and is had then; a longer one is given up, and everything below it is here by then, because
 * it had to be unpacked for the RUN to begin.
 */
const RUN_LIMIT_MS = 10_000
const IS_RUN = /^\[[^\]]*\] RUN /

/**
 * Makes a publication's layers and BuildKit's records of its steps present and unpacked in this worker's engine, so that the next build of the image goes on from
 * them: its build is repeated with everything that the registry's cache has, and the engine keeps what comes out for as long as that takes. Publishes nothing, writes
 * nothing to ledger or registry. An image's secrets have to be there, as for a build: an empty one in their place would end up in the cache.
 * (docs/decisions/2026-11-21-warm.md: pulling the image warms no step, and a build without output leaves the layers in the registry.)
 */
export async function warmImage(
  { job, digest }: LatestDocument,
  place: Place,
  world: ImageWorld,
  signal: AbortSignal,
): Promise<void> {
  const engine = await world.engine.info()
  if (!engine.containerdStore)
    throw unavailable(
      'no_registry_cache',
      'the engine keeps images outside of containerd’s store, so no cache in the registry is for it',
    )
  await tagLocalPins(job.pins, world)
  await world.source(job.repository).fetch({ commit: job.commit, signal })
  const { definition, inputs } = await verifyJob(job, world)
  await using secrets = await world.secrets.materialise(definition.secrets)
  const { submodules, lfs } = definition
  const root = await world.checkout(job.repository, place, job.commit, { submodules, lfs, signal })
  const ingredients = { definition, inputs, engine, root, place, secrets: secrets.files }
  const request = await buildRequest(job, ingredients, world)
  const names = await nameStages(request.dockerfile, inputs.analysis.stages)

  const keepAs = `bake-warm:${world.worker}-${place}`
  await using _kept = { [Symbol.asyncDispose]: () => world.engine.untag(keepAs) }
  // Most of the next build starts from the image's own layers; a compiler's stage has its own, which are not among them.
  for (const target of [definition.target, ...names.filter((name) => name !== definition.target)])
    await repeat({ ...request, attest: false, target, keepAs }, world.builder(engine), signal)
  await world.warmth.note(engine.id, job.image, { digest, by: 'warmed', at: Date.now() })
}

async function repeat(request: BuildRequest, builder: ReturnType<ImageWorld['builder']>, signal: AbortSignal): Promise<void> {
  const working = new AbortController()
  const running = new Map<number, NodeJS.Timeout>()
  const cached = new Set<number>()
  const onEvent = (event: BuildEvent) => {
    if (event.type !== 'step' || !IS_RUN.test(event.name)) return
    clearTimeout(running.get(event.step))
    if (event.state === 'cached') cached.add(event.step)
    // One that was cached and starts again has its layers pulled.
    if (event.state === 'started' && !cached.has(event.step))
      running.set(
        event.step,
        setTimeout(() => working.abort(notCached(event.name)), RUN_LIMIT_MS),
      )
  }
  try {
    await builder.build(request, { signal: AbortSignal.any([signal, working.signal]), onEvent })
  } finally {
    for (const timer of running.values()) clearTimeout(timer)
  }
}

const notCached = (step: string) =>
  unavailable('not_cached', `no cache has the step ${step.slice(0, 100)}, and it takes longer than ${RUN_LIMIT_MS / 1000} s`)

/**
 * Names of the stages that RUN something, the last one left out: it is what is built without a target. One without a name is given one, which BuildKit's records
 * don't depend on; written over several lines it is left out.
 */
async function nameStages(dockerfile: string, stages: readonly NeededStage[]): Promise<string[]> {
  const lines = (await readFile(dockerfile, 'utf8')).split('\n')
  const names = stages.slice(0, -1).flatMap(({ name, line, runs }) => {
    if (!runs) return []
    if (!/^\d+$/.test(name)) return [name]
    const from = lines[line - 1]?.trimEnd() ?? ''
    if (!/^\s*FROM\s/i.test(from) || /[\\`]$/.test(from)) return []
    lines[line - 1] = `${from} AS bake-stage-${name}`
    return [`bake-stage-${name}`]
  })
  await writeFile(dockerfile, lines.join('\n'))
  return names
}
