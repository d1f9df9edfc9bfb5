import type { EnsuredImage, ImageSource } from '../ami/images.ts'
import type { Asked } from '../image/ask.ts'
import { askImages, planCommit } from '../image/ask.ts'
import { openAsker } from './asker.ts'
import type { Project, ProjectRepository } from './project.ts'

type Request = Parameters<typeof openAsker>[2]

/** What asking for images needs, opened by the first call that needs it: on one machine that starts the host process. */
export interface LazyAsker extends AsyncDisposable {
  open(): ReturnType<typeof openAsker>
}

export function lazyAsker(project: Project, repository: ProjectRepository, request: Request): LazyAsker {
  let opened: ReturnType<typeof openAsker> | undefined
  return {
    open() {
      opened ??= openAsker(project, repository, request)
      return opened
    },
    async [Symbol.asyncDispose]() {
      const asker = await opened?.catch(() => undefined)
      asker?.[Symbol.dispose]()
    },
  }
}

/** The image pipeline, as machine images need it. */
export const imageSource = (asker: LazyAsker, { signal, emit }: Pick<Request, 'signal' | 'emit'>): ImageSource => ({
  async published(commit, names) {
    const { world } = await asker.open()
    const plans = await planCommit({ commit, images: names, rebuild: false }, world, signal)
    return plans.map(({ image, target, published }) => ({
      image,
      ...(published && { reference: `${target.host}/${target.path}@${published.digest}` }),
    }))
  },
  async ensure(commit, names, before) {
    const { world, lost } = await asker.open()
    const preflight = async () => {
      await before()
      await world.preflight()
    }
    const either = AbortSignal.any([signal, lost])
    const ask = { commit, images: names, rebuild: false, priority: 'normal', wait: true, signal: either } as const
    const { outcomes } = await askImages({ ...ask, images: names }, { ...world, preflight })
    const open = outcomes.flatMap(({ build, outcome }) => (build !== undefined && outcome === undefined ? [build] : []))
    if (open.length > 0) {
      const text = `images go on building: bake logs ${open[0]} --follow shows one, bake cancel ${open.join(' ')} stops ${open.length === 1 ? 'it' : 'them'}`
      emit({ type: 'notice', level: 'info', text })
      either.throwIfAborted()
    }
    return outcomes.map(ensured)
  },
})

const ensured = ({ image, build, outcome }: Asked['outcomes'][number]): EnsuredImage => ({
  image,
  ...(build !== undefined && { build }),
  ...(outcome?.reference !== undefined && { reference: outcome.reference }),
  ...(outcome?.error && { error: outcome.error }),
})
