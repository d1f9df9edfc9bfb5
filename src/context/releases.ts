import { findRelease, type ListedRelease, type ListWorld, listReleases } from '../ami/list.ts'
import { openShelf } from './ami-shelf.ts'
import type { Project } from './project.ts'

/** What reading releases needs: nothing is started. */
export const listWorld = (project: Project): ListWorld => ({
  ledger: project.ledger,
  stateDir: project.stateDir,
  has: async (baked) => (await openShelf(baked.kind, project)).has(baked),
})

/** `bake releases`: all of them, newest first. */
export const releasesOf = (project: Project) => listReleases(listWorld(project))

/** `bake release`: throws bad_release or unknown_release (exit 2). */
export const releaseNamed = (project: Project, name: string): Promise<ListedRelease> => findRelease(name, listWorld(project))
