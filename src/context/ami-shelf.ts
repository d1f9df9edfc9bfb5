import type { Shelf } from '../ami/machine.ts'
import { diskShelf } from '../ami/shelf-disk.ts'
import { unavailable } from '../errors.ts'
import type { Project } from './project.ts'

/** Where machine images of a kind are kept. */
export async function openShelf(kind: 'disk' | 'ami', project: Project): Promise<Shelf> {
  if (kind === 'disk') return diskShelf(project.stateDir)
  throw unavailable('not_built', 'AMIs are not baked yet', { next: 'start from a disk: machine.base.disk' })
}
