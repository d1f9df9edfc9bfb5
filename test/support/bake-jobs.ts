import { join } from 'node:path'
import type { AskMachineWorld } from '../../src/ami/ask.ts'
import type { ImageSource } from '../../src/ami/images.ts'
import { bakeMachineJob } from '../../src/ami/job.ts'
import type { MachineJobWorld } from '../../src/ami/job-world.ts'
import type { AmiBase } from '../../src/ami/machine.ts'
import { LOCAL_PREFIX, LOCAL_REGION } from '../../src/io/host/queue-server.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'
import { Journal } from '../../src/jobs/held.ts'
import type { MachineJob } from '../../src/jobs/job.ts'
import { receiveLoop } from '../../src/jobs/loop.ts'
import { receiveBakes } from '../../src/jobs/receive-bakes.ts'
import type { BuildRecord } from '../../src/jobs/records.ts'
import { Slots } from '../../src/jobs/slots.ts'
import { makeBakeWorld, type TestWorld } from './bake-world.ts'

/** Jobs are of AMIs only. Everything else of these worlds is a disk's: what is baked upon it is a small file. */
const AMI: AmiBase = {
  ...{ kind: 'ami', id: 'ami-0123456789abcdef0', region: 'us-east-1', name: 'base', ownerId: '1', createdAt: 1 },
  ...{ architecture: 'amd64', rootDevice: '/dev/xvda', virtualBytes: 20e9 },
}

export interface BakeJobsOptions {
  /** The repository with bake.yaml; ledger and state directory are below it. */
  dir: string
  registry: string
}

export const openJobQueue = (endpoint: string): Promise<SqsQueue> =>
  SqsQueue.open({ endpoint, region: LOCAL_REGION, prefix: LOCAL_PREFIX, bakes: true })

/** Whoever runs `bake ami` where workers bake. */
export async function makeAsker(options: BakeJobsOptions, queue: SqsQueue): Promise<AskMachineWorld & TestWorld> {
  const world = await makeBakeWorld(options)
  return Object.assign(world, { project: 'shop', repository: options.dir, queue, manner: {}, base: async () => AMI })
}

export interface BakeWorker extends AsyncDisposable {
  readonly problems: string[]
  readonly records: BuildRecord[]
  /** Ends that `notify:` was told of: what a bake did, or the code of its error. */
  readonly announced: string[]
  /** Worlds of the jobs that it has had. */
  readonly worlds: TestWorld[]
  readonly drain: AbortController
  readonly abort: AbortController
  readonly done: Promise<void>
}

export interface BakeWorkerOptions extends BakeJobsOptions {
  queue: SqsQueue
  name: string
  visibilitySeconds?: number
  once?: boolean
  leaseMs?: number
  timeoutMs?: number
  /** Told of each job's world before it bakes. */
  onOpen?: (world: TestWorld, job: MachineJob) => void
}

/** A worker that bakes: its queue, loop, handler, claim log and ledger are what they are in life, its baker writes a small file. */
export function startBakeWorker(options: BakeWorkerOptions): BakeWorker {
  const { queue, name, dir, visibilitySeconds = 5, once = false, leaseMs, timeoutMs = 60_000, onOpen = () => {} } = options
  const [drain, abort] = [new AbortController(), new AbortController()]
  const [problems, records, worlds]: [string[], BuildRecord[], TestWorld[]] = [[], [], []]
  const onProblem = (text: string) => void problems.push(text)
  const announced: string[] = []
  const world: MachineJobWorld = {
    ledger: new DirectoryLedger(join(dir, '.bake/ledger')),
    worker: name,
    pollMs: 10,
    timeoutMs,
    onProblem,
    onRecord: (record) => void records.push(record),
    async announce(ended) {
      if ('bake' in ended) announced.push(ended.bake.status)
      else announced.push('job' in ended ? ended.job : String((ended.error as { code?: string }).code))
    },
    async open(job, { log, signal }) {
      const made = await makeBakeWorld({ ...options, signal, ...(leaseMs !== undefined && { leaseMs }) })
      worlds.push(made)
      onOpen(made, job)
      const by = `${job.by} on worker ${name}`
      return Object.assign(made, { base: async () => AMI, images: askedImages(job), by, tell: log.tell })
    },
  }
  const done = receiveLoop({
    ...{ queue, visibilitySeconds, once, onProblem, slots: new Slots(1), journal: new Journal(join(dir, '.bake', name, 'held')) },
    ...{ drain: drain.signal, abort: abort.signal, receive: receiveBakes },
    handlers: { machine: (job, tools) => bakeMachineJob(job, world, tools) },
  })
  return {
    ...{ problems, records, worlds, announced, drain, abort, done },
    async [Symbol.asyncDispose]() {
      abort.abort()
      drain.abort()
      await done
    },
  }
}

/** Images are pushed by the asker's process, without an engine and without a claim log of their own. */
const askedImages = ({ images }: MachineJob): ImageSource => {
  const published = async () => images.map(({ image, repository, digest }) => ({ image, reference: `${repository}@${digest}` }))
  return { published, ensure: published }
}
