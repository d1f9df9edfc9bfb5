import type { Baked, Shelf } from '../ami/machine.ts'
import { diskShelf, type Rebase } from '../ami/shelf-disk.ts'
import type { AmiAws, AwsRequest } from './ami-aws.ts'
import type { Project } from './project.ts'

export interface Shelves extends AsyncDisposable {
  /** Throws aws_missing (exit 2). */
  aws(): Promise<AmiAws>
  shelf(kind: Baked['kind']): Promise<Shelf>
  has(baked: Baked): Promise<boolean>
}

/** Loaded when a disk is kept. */
const rebase: Rebase = async (path, backing) => (await import('../io/qemu-img.ts')).rebaseOverlay(path, backing)

/** Where machine images of a project are kept: AWS is reached by the first that is an AMI. */
export function openShelves(project: Project, request: AwsRequest): Shelves {
  let opened: Promise<AmiAws> | undefined
  const aws = () => {
    opened ??= import('./ami-aws.ts').then(({ amiAws }) => amiAws(project, request))
    return opened
  }
  const shelf = async (kind: Baked['kind']) => (kind === 'disk' ? diskShelf(project.stateDir, rebase) : (await aws()).shelf())
  return {
    aws,
    shelf,
    has: async (baked) => (await shelf(baked.kind)).has(baked),
    async [Symbol.asyncDispose]() {
      const known = await opened?.catch(() => undefined)
      await known?.[Symbol.asyncDispose]()
    },
  }
}
