import { hostname } from 'node:os'
import type { MachineLog } from '../ami/bake-log.ts'
import { bakeMachineJob } from '../ami/job.ts'
import { jobImages } from '../ami/job-images.ts'
import { machineName } from '../ami/job-record.ts'
import type { MachineJobWorld } from '../ami/job-world.ts'
import { prunePart } from '../ami/prune.ts'
import { localPart } from '../ami/prune-local.ts'
import { messageOf } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { ImageWorld } from '../image/world.ts'
import type { MachineJob } from '../jobs/job.ts'
import type { Handlers } from '../jobs/loop.ts'
import { openBakeWorld } from './ami-world.ts'
import { announceBake, announceFailedBake, announceFailedJob } from './announce.ts'
import type { Incarnation } from './image-world.ts'
import type { Commits, Project } from './project.ts'
import { listWorld } from './releases.ts'
import { hasEnded } from './whoami.ts'
import type { WorkerOptions } from './worker.ts'
import type { WorkerLife } from './worker-life.ts'

/** Takes machine jobs. */
export function machineHandler(
  options: Options,
  me: Me,
  images: Pick<ImageWorld, 'source'>,
  life: Pick<WorkerLife, 'job'>,
): NonNullable<Handlers['machine']> {
  const world = machineJobWorld(options, me, images)
  void tidy(options)
  return (job, tools) => {
    const subject = { build: job.build, image: machineName(job.variant) }
    return life.job(subject, tools, () => bakeMachineJob(job, world, tools))
  }
}

type Options = Pick<WorkerOptions, 'project' | 'drain' | 'onProblem' | 'abort'>

/** What runs of a worker that was killed left on its disk, where nobody else would find it: one pass marks, the next deletes. */
async function tidy({ project, drain, onProblem }: Pick<WorkerOptions, 'project' | 'drain' | 'onProblem'>): Promise<void> {
  try {
    await using world = listWorld(project, drain)
    const part = localPart({ ...world, host: hostname(), ended: hasEnded })
    if ((await prunePart(part, project.ledger, { dryRun: false })).length > 0)
      await prunePart(part, project.ledger, { dryRun: false })
  } catch (error) {
    if (!drain.aborted) onProblem(`what killed bakes left here: ${messageOf(error)}`)
  }
}

type Me = Pick<Incarnation, 'name' | 'settings' | 'watch'>

/** Everything that a machine job needs of this worker: its commit comes from the mirror that images are built from. */
function machineJobWorld({ project, onProblem, abort }: Options, me: Me, images: Pick<ImageWorld, 'source'>): MachineJobWorld {
  return {
    ledger: project.ledger,
    worker: me.name,
    pollMs: project.pollMs,
    timeoutMs: me.settings.buildTimeoutMs,
    onProblem,
    onRecord: (record, takenFrom) => me.watch.record(record, takenFrom),
    async announce(ended) {
      const request = { emit: problems(onProblem), signal: abort }
      if ('bake' in ended) await announceBake(ended.bake, project, request)
      else if ('job' in ended) await announceFailedJob(ended.job, project, request)
      else await announceFailedBake(ended.error, project, request)
    },
    open: (job, run) => openJob(job, run, project, me.name, images),
  }
}

/** Of telling, all that is told is what went wrong. */
const problems =
  (onProblem: (text: string) => void): Emit =>
  (event) => {
    if (event.type === 'notice') onProblem(event.text)
  }

async function openJob(
  job: MachineJob,
  { log, signal }: { log: MachineLog; signal: AbortSignal },
  project: Project,
  worker: string,
  images: Pick<ImageWorld, 'source'>,
) {
  const { commit, repository, base } = job
  const source = images.source(repository)
  await source.fetch({ commit, signal })
  const emit: Emit = (event) => {
    if (event.type === 'machine') log.tell(event.event)
    if (event.type === 'notice') log.tell({ ...event, type: 'note', t: Date.now() })
  }
  const checkout: Commits = {
    objects: source.objects,
    resolve: async () => ({ commit }),
    changes: async () => [],
    [Symbol.asyncDispose]: async () => {},
  }
  const request = { emit, settled: async () => {}, signal, base, baker: job.baker, explain: job.explain ?? false }
  const world = await openBakeWorld(project, request, { checkout, configPath: job.config, repository, source: repository })
  return { ...world, images: jobImages(job, world.images), standIns: job.standIns, by: `${job.by} on worker ${worker}` }
}
