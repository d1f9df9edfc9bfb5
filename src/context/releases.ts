import { findRelease, type ListedRelease, type ListWorld, listReleases } from '../ami/list.ts'
import { type RunsOn, whereRuns } from '../fleet/where.ts'
import { openShelves, type Shelves } from './ami-shelf.ts'
import type { Project } from './project.ts'

/** What reading releases needs: nothing is started. */
export function listWorld(project: Project, signal: AbortSignal): ListWorld & Pick<Shelves, 'aws'> & AsyncDisposable {
  const { aws, has, [Symbol.asyncDispose]: close } = openShelves(project, { signal, tell: () => {} })
  const { ledger, stateDir } = project
  return { ledger, stateDir, aws, has, [Symbol.asyncDispose]: close }
}

/** `bake releases`: all of them, newest first. */
export async function releasesOf(project: Project, signal: AbortSignal) {
  await using world = listWorld(project, signal)
  return await listReleases(world)
}

/** `bake release`: throws bad_release or unknown_release (exit 2). */
export async function releaseShown(
  project: Project,
  name: string,
  signal: AbortSignal,
): Promise<ListedRelease & { on: RunsOn[] }> {
  const found = await releaseNamed(project, name, signal)
  const stacks = project.config.stacks.map((stack) => stack.name)
  return { ...found, on: await whereRuns(found.release, stacks, project.ledger) }
}

/** Throws bad_release or unknown_release (exit 2). */
export async function releaseNamed(project: Project, name: string, signal: AbortSignal): Promise<ListedRelease> {
  await using world = listWorld(project, signal)
  return await findRelease(name, world)
}
