import { type Bake, type BakeAsk, bakeRelease } from '../ami/bake.ts'
import type { Release } from '../ami/machine.ts'
import { type Preview, planRelease, previewBake } from '../ami/preview.ts'
import { nameOf } from '../ami/records.ts'
import type { ReleaseAsk } from '../ami/release.ts'
import { BakeError, EXIT, messageOf } from '../errors.ts'
import type { MachineOutcome } from '../events.ts'
import { type BakeRequest, openBakeWorld } from './ami-world.ts'
import type { Project } from './project.ts'

/** `bake ami`: bakes a release's machine image, or finds it, and tells the story. */
export async function bakeAmi(project: Project, ask: BakeAsk, request: BakeRequest): Promise<Bake & { seconds: number }> {
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  await using world = await openBakeWorld(project, request)
  let begun = false
  const tell: typeof world.tell = (event) => {
    begun ||= event.type === 'phase'
    world.tell(event)
  }
  try {
    const bake = await bakeRelease(ask, { ...world, tell })
    const { baked } = bake.machine
    const size = baked.kind === 'disk' ? { sizeBytes: baked.sizeBytes } : {}
    const outcome: MachineOutcome = { status: bake.status, reference: nameOf(baked), seconds: seconds(), ...size }
    request.emit({ type: 'machine-done', ...(bake.build && { build: bake.build }), outcome })
    return { ...bake, seconds: seconds() }
  } catch (error) {
    // What is refused before anything began needs no story.
    if (begun && !request.signal.aborted) request.emit({ type: 'machine-done', outcome: failureOf(error, seconds()) })
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
export async function previewAmi(project: Project, ask: BakeAsk, request: BakeRequest): Promise<Preview> {
  await using world = await openBakeWorld(project, request)
  return await previewBake(ask, world)
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
  const plan = await planRelease(ask, world)
  const { writeRendering } = await import('./ami-render.ts')
  return { release: plan.release, inputs: plan.inputs, files: await writeRendering(plan, out) }
}
