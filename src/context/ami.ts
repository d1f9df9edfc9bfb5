import { join } from 'node:path'
import type { AskedBake } from '../ami/ask.ts'
import { type Bake, type BakeAsk, bakeRelease } from '../ami/bake.ts'
import { machineName } from '../ami/job-record.ts'
import type { Release } from '../ami/machine.ts'
import { type Preview, planRelease, previewBake } from '../ami/preview.ts'
import { nameOf } from '../ami/records.ts'
import type { ReleaseAsk } from '../ami/release.ts'
import type { BakeWorld } from '../ami/world.ts'
import type { MachineDefinition } from '../config.ts'
import { BakeError, EXIT, messageOf } from '../errors.ts'
import type { MachineOutcome } from '../events.ts'
import { type BakeRequest, openBakeWorld } from './ami-world.ts'
import { announceBake, announceFailedBake } from './announce.ts'
import type { Project } from './project.ts'

export type Baking = Bake & { seconds: number }

/** Where a bake is done: by workers, where bake.yaml says that they bake and unless `here`. */
export interface AmiRequest extends BakeRequest {
  here?: boolean
  /** false: what workers are asked for isn't followed. */
  wait?: boolean
}

export interface Bakings {
  /** In bake.yaml's order: at least one. */
  made: (Baking | AskedBake)[]
  /** Why there are no more of them. */
  failure?: unknown
}

/**
 * `bake ami`: bakes a release's machine images, or finds them, and tells the story; here one after the other. Those that nobody waits for are only asked for. Throws
 * when there is none.
 */
export async function bakeAmi(project: Project, ask: BakeAsk, request: AmiRequest): Promise<Bakings> {
  await using world = await openBakeWorld(project, request)
  if (project.aws && project.config.worker.bakes && !request.here) {
    const { askWorkers, isDone } = await import('./ami-elsewhere.ts')
    const asked = await askWorkers(ask, world, request)
    // Of what was made just now the worker tells.
    for (const each of asked?.made ?? []) if (isDone(each) && each.status === 'found') await announceBake(each, project, request)
    if (asked) return asked
  }
  if (request.wait === false) {
    const why = request.here ? '' : ' (workers bake AMIs, with worker.bakes: true)'
    request.emit({ type: 'notice', level: 'info', text: `--no-wait changes nothing: this process bakes${why}` })
  }
  const made: Baking[] = []
  try {
    await eachVariant(async (variant) => {
      const baking = await bakeOne({ ...ask, variant }, world, project, request)
      made.push(baking)
      return baking
    })
  } catch (failure) {
    if (made.length === 0) throw failure
    return { made, failure }
  }
  return { made }
}

/** Of `machine` and of each in its `also`, as the release's commit has it. */
async function eachVariant<T extends { plan?: { definition: MachineDefinition } }>(
  make: (variant: number) => Promise<T>,
): Promise<T[]> {
  const made = [await make(0)]
  // Without a plan the images come first.
  const others = made[0]?.plan?.definition.also.length ?? 0
  for (let variant = 1; variant <= others; variant++) made.push(await make(variant))
  return made
}

async function bakeOne(
  ask: BakeAsk & { variant: number },
  world: BakeWorld,
  project: Project,
  request: BakeRequest,
): Promise<Baking> {
  try {
    const made = await telling(ask.variant, request, undefined, (tell) => bakeRelease(ask, { ...world, tell }))
    await announceBake(made, project, request)
    return made
  } catch (error) {
    if (!request.signal.aborted) await announceFailedBake(error, project, request)
    throw error
  }
}

/** Tells of one machine image: what happens, and what became of it. */
export async function telling(
  variant: number,
  { emit, signal }: Pick<BakeRequest, 'emit' | 'signal'>,
  asked: string | undefined,
  bake: (tell: BakeWorld['tell']) => Promise<Bake>,
): Promise<Baking> {
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  const name = variant === 0 ? {} : { machine: machineName(variant) }
  const subject = { ...name, ...(asked !== undefined && { build: asked }) }
  let begun = false
  const tell: BakeWorld['tell'] = (event) => {
    begun ||= event.type === 'phase'
    emit({ type: 'machine', ...subject, event })
  }
  try {
    const made = await bake(tell)
    const { baked } = made.machine
    const size = baked.kind === 'disk' ? { sizeBytes: baked.sizeBytes } : {}
    const outcome: MachineOutcome = { status: made.status, reference: nameOf(baked), seconds: seconds(), ...size }
    emit({ type: 'machine-done', ...subject, ...(made.build && { build: made.build }), outcome })
    return { ...made, seconds: seconds() }
  } catch (error) {
    // What is refused before anything began needs no story.
    if (begun && !signal.aborted) emit({ type: 'machine-done', ...subject, outcome: failureOf(error, seconds()) })
    throw error
  }
}

function failureOf(error: unknown, seconds: number): MachineOutcome {
  const known = error instanceof BakeError
  const message = messageOf(error).split('\n', 1)[0] ?? ''
  const told = { code: known ? error.code : 'bug', message, exit: known ? error.exit : EXIT.bug }
  return { status: 'failed', seconds, error: { ...told, ...(known && error.next !== undefined && { next: error.next }) } }
}

/** `bake ami --dry-run`: what would be done; writes nothing. */
export async function previewAmi(project: Project, ask: BakeAsk, request: BakeRequest): Promise<Preview[]> {
  await using world = await openBakeWorld(project, request)
  return await eachVariant((variant) => previewBake({ ...ask, variant }, world))
}

export interface Rendering {
  release: Release
  inputs: string
  /** Absolute paths. */
  files: string[]
}

/** `bake render`: writes all that is rendered for a release's machine to `out`, a directory that is empty or not there yet. Builds nothing. */
export async function renderRelease(project: Project, ask: ReleaseAsk, out: string, request: BakeRequest): Promise<Rendering> {
  await using world = await openBakeWorld(project, request)
  const plans = await eachVariant(async (variant) => ({ plan: await planRelease({ ...ask, variant }, world) }))
  const { writeRendering } = await import('./ami-render.ts')
  const files: string[] = []
  for (const [variant, { plan }] of plans.entries())
    files.push(...(await writeRendering(plan, variant === 0 ? out : join(out, `machine-${variant + 1}`))))
  const { release, inputs } = plans[0]!.plan
  return { release, inputs, files }
}
