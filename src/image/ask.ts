import type { Config } from '../config.ts'
import { BakeError, refused } from '../errors.ts'
import type { Emit, ImageOutcome } from '../events.ts'
import type { JobSender } from '../io/queue.ts'
import { shardOf } from '../jobs/affinity.ts'
import { noteAsker } from '../jobs/askers.ts'
import { followBuild } from '../jobs/follow.ts'
import { formatBody, type ImageJob } from '../jobs/job.ts'
import { type BuildRecord, commitDocumentSchema, read } from '../jobs/records.ts'
import { keys } from '../names.ts'
import { type Ask, type ImagePlan, type PlanWorld, planImages } from './plan.ts'
import { noteAsk } from './supersede.ts'

/** What `bake image` needs: wired in context.ts. */
export interface AskWorld extends PlanWorld {
  project: string
  /** As jobs name it, and the path of bake.yaml in it. */
  repository: string
  configPath: string
  parseConfig(text: string, file: string): Config
  /** Cheap facts before queued work: on one machine the engine and buildx are there. */
  preflight(): Promise<void>
  queue: JobSender
  /** Whether queued builds of older commits of a branch give way to this ask. */
  supersede: boolean
  pollMs: number
  emit: Emit
  /** Resolves when what was emitted has been shown: a flood must not pile up in memory. */
  settled(): Promise<void>
}

export interface AskOptions extends Ask {
  priority: 'normal' | 'high'
  wait: boolean
  signal: AbortSignal
}

export interface Asked {
  plans: ImagePlan[]
  /** By image, in bake.yaml's order. Without `wait`, only what needed no work has one. */
  outcomes: { image: string; build?: string; outcome?: ImageOutcome }[]
  /** The signal came while it followed: the work goes on. */
  detached: boolean
}

/** A commit's images, planned from its own bake.yaml. Reads only: this is what --dry-run prints. */
export async function planCommit(ask: Ask, world: AskWorld, signal: AbortSignal): Promise<ImagePlan[]> {
  const text = await world.objects.file(ask.commit, world.configPath)
  if (!text) {
    throw refused('config_missing', `commit ${ask.commit.slice(0, 12)} has no ${world.configPath}`, {
      next: `images are defined by the bake.yaml of the commit being built: git add ${world.configPath} && git commit, then ask again`,
      ids: { commit: ask.commit },
    })
  }
  const config = parseCommitted(Buffer.from(text).toString('utf8'), ask.commit, world)
  return planImages(ask, config, world.configPath.slice(0, world.configPath.lastIndexOf('/') + 1), world, signal)
}

/** Named as git names it: `git show <commit>:bake.yaml` prints what the line numbers are about. */
function parseCommitted(text: string, commit: string, world: AskWorld): Config {
  const name = `${commit.slice(0, 12)}:${world.configPath}`
  try {
    return world.parseConfig(text, name)
  } catch (error) {
    if (!(error instanceof BakeError)) throw error
    const { kind, exit, code, message, ids } = error
    const next = `images are defined by the bake.yaml of the commit being built: correct ${world.configPath}, commit it, then ask again`
    throw new BakeError(kind, exit, code, message, { next, ids, cause: error })
  }
}

/** The asker's story: plan → enqueue what is missing → follow it to its end. */
export async function askImages(ask: AskOptions, world: AskWorld): Promise<Asked> {
  const started = performance.now()
  const plans = await planCommit(ask, world, ask.signal)
  for (const plan of plans)
    for (const text of plan.warnings) world.emit({ type: 'notice', level: 'warning', text: `${plan.image}: ${text}` })

  const seconds = () => (performance.now() - started) / 1000
  const work = plans.filter((plan) => plan.action !== 'none')
  if (work.some((plan) => plan.action === 'build')) await world.preflight()
  await Promise.all(work.map((plan) => enqueue(plan, ask, world)))

  const outcomes = await Promise.all(
    plans.map(async (plan) => {
      if (plan.action === 'none') {
        const outcome = currentOutcome(plan, seconds())
        world.emit({ type: 'image-done', image: plan.image, outcome })
        return { image: plan.image, outcome }
      }
      if (!ask.wait) return { image: plan.image, build: plan.build }
      const record = await followBuild(plan.build, world.ledger, {
        signal: ask.signal,
        pollMs: world.pollMs,
        onEvent: (event) => world.emit({ type: 'image', image: plan.image, build: plan.build, event }),
        settled: world.settled,
      }).catch((error: unknown) => {
        if (ask.signal.aborted) return undefined
        throw error
      })
      if (!record) return { image: plan.image, build: plan.build }
      const outcome = outcomeOf(record, seconds())
      world.emit({ type: 'image-done', image: plan.image, build: plan.build, outcome })
      return { image: plan.image, build: plan.build, outcome }
    }),
  )
  return { plans, outcomes, detached: ask.wait && ask.signal.aborted }
}

/**
 * Puts one plan on the queue. What others go by is created after the message is sent, the record last: the worker makes up for an asker that
 * died in between, but nobody could for a message that was never sent.
 */
async function enqueue(plan: ImagePlan, ask: AskOptions, world: AskWorld): Promise<void> {
  const job: ImageJob = {
    version: 1,
    kind: 'image',
    build: plan.build,
    project: world.project,
    repository: world.repository,
    config: world.configPath,
    commit: ask.commit,
    image: plan.image,
    key: plan.key,
    pins: plan.pins,
    ...(ask.branch === undefined ? {} : { branch: ask.branch }),
    priority: ask.priority,
    rebuild: ask.rebuild,
  }
  await rememberCommit(plan, ask, world, job)
  const { version: _, kind: __, pins: ___, ...subject } = job
  const shard = shardOf(job, world.queue.shards)
  const record: BuildRecord = { version: 1, ...subject, status: 'queued', askedAt: Date.now(), shard }
  await world.queue.send(ask.priority, formatBody(job), shard)
  await Promise.all([noteAsker(world.ledger, job), noteAsk(job, world)])
  await world.ledger.create(keys.build(plan.build), record)
}

/** Two who ask for a new commit at once must build the same thing: whoever creates the document first decides the pins. */
async function rememberCommit(plan: ImagePlan, ask: AskOptions, world: AskWorld, job: ImageJob): Promise<void> {
  const at = keys.commit(ask.commit, plan.image)
  if (!plan.document || (await world.ledger.create(at, plan.document))) return
  const theirs = await read(world.ledger, at, commitDocumentSchema)
  if (theirs && theirs.target === plan.document.target && theirs.keySchema === plan.document.keySchema)
    Object.assign(job, { key: theirs.key, pins: theirs.pins })
}

/** `<host>/<path>@sha256:<hex>` */
const referenceOf = (plan: ImagePlan, digest: string): string => `${plan.target.host}/${plan.target.path}@${digest}`

function currentOutcome(plan: ImagePlan, seconds: number): ImageOutcome {
  const { digest, tag, sizeBytes } = plan.published!
  return {
    status: 'current',
    reference: referenceOf(plan, digest),
    digest,
    tag,
    seconds,
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
  }
}

/** What a record that has ended says to the person who asked. */
function outcomeOf(record: BuildRecord, seconds: number): ImageOutcome {
  const { status, reference, digest, tag, sizeBytes, pushedBytes, steps, supersededBy, failure } = record
  const told = Object.entries({ reference, digest, tag, sizeBytes, pushedBytes, steps, supersededBy }).filter(
    ([, value]) => value !== undefined,
  )
  const outcome = { seconds, ...Object.fromEntries(told) }
  if (status === 'built' || status === 'tagged') return { status, ...outcome }
  const { kind: _, ...error } = failure
    ? { ...failure, message: headline(failure.message) }
    : { kind: 'user', code: status, message: `build ${record.build} was ${status}`, exit: 3 }
  return { status: status === 'cancelled' || status === 'superseded' ? status : 'failed', ...outcome, error }
}

/** A failure's first line: the step's last lines follow it in the record, and the story has told them already. */
const headline = (message: string): string => message.split('\n', 1)[0] ?? message
