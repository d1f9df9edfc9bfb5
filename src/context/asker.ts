import { join } from 'node:path'
import { parseConfig } from '../config.ts'
import { BakeError, refused } from '../errors.ts'
import type { Emit } from '../events.ts'
import { type Asked, type AskWorld, askImages, planCommit } from '../image/ask.ts'
import type { Engine } from '../io/engine.ts'
import { HttpRegistry } from '../io/registry-http.ts'
import { isBranchName } from '../names.ts'
import { type Commits, defaultPlatform, openCheckout, type Project, type ProjectRepository } from './project.ts'
import { connectServices } from './services.ts'

export interface ImageRequest {
  subject: { sha?: string; branch?: string; tag?: string }
  /** The branch whose tag is to move, where the subject doesn't tell: of a commit that was named by its id. */
  branch?: string
  images: string[]
  rebuild: boolean
  wait: boolean
  priority: 'normal' | 'high'
  dryRun: boolean
  emit: Emit
  settled: () => Promise<void>
  signal: AbortSignal
}

export interface AskedForImages extends Asked {
  commit: string
  branch?: string
  /** Ctrl-C while following: the work goes on. */
  detached: boolean
}

/** `bake image`: finds the commit, asks for its images, follows them. */
export async function askForImages(project: Project, request: ImageRequest): Promise<AskedForImages> {
  if (request.branch !== undefined && !isBranchName(request.branch))
    throw refused('bad_ref', `${JSON.stringify(request.branch)} is not a legal branch name`, { next: 'git branch --list' })
  const repository = await openCheckout(project, request.signal)
  await using checkout = repository.checkout
  // First: for a commit that isn't there no host is started.
  const { commit, branch = request.branch } = await checkout.resolve(request.subject)
  using asker = await openAsker(project, repository, request, request.dryRun ? undefined : commit)
  const { sha, tag } = request.subject
  const untold =
    sha === undefined && tag === undefined && request.subject.branch === undefined
      ? noteChanges(checkout, commit, request.emit)
      : undefined
  const ask = { commit, branch, images: request.images, rebuild: request.rebuild }
  const subject = { commit, ...(branch === undefined ? {} : { branch }) }
  if (request.dryRun) {
    const plans = await planCommit(ask, asker.world, request.signal)
    await untold
    return { ...subject, plans, outcomes: [], detached: false }
  }
  const signal = AbortSignal.any([request.signal, asker.lost])
  const asked = await askImages({ ...ask, priority: request.priority, wait: request.wait, signal }, asker.world)
  await untold
  const open = request.wait ? asked.outcomes.filter(({ outcome }) => outcome === undefined) : []
  if (asker.lost.aborted && !request.signal.aborted && open.length > 0) throw keptBuilds(asker.lost.reason, open)
  return { ...subject, ...asked, detached: asked.detached && open.length > 0 }
}

/** Nobody works on them now, but the queue has them. */
function keptBuilds(error: unknown, open: { image: string; build?: string }[]): unknown {
  if (!(error instanceof BakeError)) return error
  const { kind, exit, code, message } = error
  const ids = Object.fromEntries(open.map(({ image, build = '' }) => [image, build]))
  const next = `${error.next ?? ''}\n      No build is lost: bake logs ${open[0]?.build} --follow goes on with it.`.trim()
  return new BakeError(kind, exit, code, message, { next, ids: { ...error.ids, ...ids }, cause: error })
}

const NAMED_CHANGES = 3

/** A dirty work tree: what is built is the commit, and the person should know what isn't in it. */
async function noteChanges(checkout: Commits, commit: string, emit: Emit): Promise<void> {
  const changes = await checkout.changes().catch(() => [])
  if (changes.length === 0) return
  const named = changes.slice(0, NAMED_CHANGES).join(', ')
  const more = changes.length > NAMED_CHANGES ? ` and ${changes.length - NAMED_CHANGES} more` : ''
  emit({
    type: 'notice',
    level: 'warning',
    text: `commit ${commit.slice(0, 12)} is what gets built; uncommitted changes are not in it: ${named}${more}`,
  })
}

/** The engine is asked only for what is new: a commit asked for again needn't load its client. */
function lazyEngine(): Pick<Engine, 'ping' | 'image'> {
  const engine = async () => new (await import('../io/docker.ts')).DockerEngine()
  return {
    ping: async () => (await engine()).ping(),
    image: async (reference) => (await engine()).image(reference),
  }
}

/** Everything that asking for images needs; disposing it lets go of the host. `ahead`: a commit that will be asked for. */
export async function openAsker(
  project: Project,
  { checkout, configPath, repository }: ProjectRepository,
  { emit, settled, signal }: Pick<ImageRequest, 'emit' | 'settled' | 'signal'>,
  ahead?: string,
): Promise<{ world: AskWorld; lost: AbortSignal } & Disposable> {
  const services = await connectServices(
    project,
    'client',
    emit,
    signal,
    ahead === undefined ? undefined : { repository, commit: ahead },
  )
  // On AWS the workers' engines build: what this machine's has is nothing to them.
  const engine = project.aws ? undefined : lazyEngine()
  const world: AskWorld = {
    ledger: project.ledger,
    registry: new HttpRegistry(),
    engine,
    objects: checkout.objects,
    target: services.target,
    defaultPlatforms: [defaultPlatform(project)],
    project: project.config.project,
    repository,
    configPath,
    parseConfig,
    async preflight() {
      if (!engine) return
      const { assertBuildx } = await import('../io/buildx-find.ts')
      await Promise.all([engine.ping(), assertBuildx(process.env, join(project.stateDir, 'buildx.json'))])
    },
    queue: services.sender,
    supersede: project.config.fleet.supersede ?? false,
    pollMs: project.pollMs,
    emit,
    settled,
  }
  return { world, lost: services.lost, [Symbol.dispose]: () => services[Symbol.dispose]() }
}
