import type { AskedForImages } from '../../src/context/asker.ts'
import type { TestFleet } from '../../test/support/fleet.ts'

/** As `bake image` does, in this process: a thousand processes would measure Node's start. */
export async function ask(
  fleet: Pick<TestFleet, 'dir' | 'env'>,
  commit: string,
  wait: boolean,
  priority: 'normal' | 'high' = 'normal',
): Promise<AskedForImages> {
  Object.assign(process.env, fleet.env)
  const { openProject } = await import('../../src/context/project.ts')
  const { askForImages } = await import('../../src/context/asker.ts')
  return askForImages(await openProject(fleet.dir), {
    subject: { sha: commit },
    branch: 'main',
    images: [],
    rebuild: false,
    wait,
    priority,
    dryRun: false,
    emit: () => {},
    settled: async () => {},
    signal: new AbortController().signal,
  })
}
