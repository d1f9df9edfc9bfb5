import { messageOf } from '../errors.ts'
import { hostStatus } from '../io/host/status.ts'
import type { Queue } from '../io/queue.ts'
import { BacklogReader } from '../jobs/backlog.ts'
import { type FleetStatus, failuresOf, queuesOf, workersOf } from '../jobs/fleet-status.ts'
import { Members } from '../jobs/members.ts'
import type { Project } from './project.ts'

export interface FleetLooker extends Disposable {
  /** The fleet now. Throws what the ledger throws; what else can't be asked is told in `problems`. */
  look(): Promise<FleetStatus>
}

/** `bake status`: looks, and starts nothing: where no host process runs, the ledger alone is asked. */
export function openFleet(project: Project): FleetLooker {
  const members = new Members(project.ledger, { goneLookMs: 5_000 })
  const backlog = new BacklogReader(project.ledger)
  const queues = new QueueFinder(project)
  const deadLetters = deadLetterCount()
  return {
    async look() {
      const problems: string[] = []
      const [seen, queue] = await Promise.all([members.look(), queues.find()])
      const tell = (error: unknown) => void problems.push(messageOf(error))
      const [depths, dead] = await Promise.all([queue?.depths().catch(tell), deadLetters(queue).catch(tell)])
      const waiting = depths?.reduce((sum, { visible, delayed }) => sum + visible + delayed, 0)
      const found = await backlog.look(waiting ?? Number.POSITIVE_INFINITY)
      return {
        project: project.config.project,
        at: Date.now(),
        aws: project.aws !== undefined,
        serving: queue !== undefined,
        workers: workersOf(seen),
        queues: queuesOf(depths ?? undefined, found),
        ...(dead !== undefined && { dead }),
        failures: failuresOf(found),
        problems,
      }
    },
    [Symbol.dispose]: () => queues.close(),
  }
}

/** Dead letters change seldom, and asking for them asks for every queue again. */
const DEAD_MS = 15_000

/** How many jobs are in the dead-letter queue, as counted not long ago. */
function deadLetterCount(): (queue: Queue | undefined) => Promise<number | undefined> {
  let known: { of: Queue; dead: number; atMs: number } | undefined
  return async (queue) => {
    if (queue === undefined) return undefined
    if (known?.of === queue && performance.now() - known.atMs < DEAD_MS) return known.dead
    const { dead } = await queue.depth()
    known = { of: queue, dead, atMs: performance.now() }
    return dead
  }
}

/** The queue of a fleet, or of the host process that runs now: one that ends and comes again may have another port. */
class QueueFinder {
  readonly #project: Project
  #open: { at: string; queue: Queue } | undefined

  constructor(project: Project) {
    this.#project = project
  }

  async find(): Promise<Queue | undefined> {
    if (this.#project.aws) return this.#open?.queue ?? (await this.#keep('aws', await this.#onAws(this.#project.aws)))
    const host = await hostStatus(this.#project.stateDir)
    if (!host.running) {
      this.close()
      return undefined
    }
    if (this.#open?.at === host.queueEndpoint) return this.#open.queue
    const { openLocalQueue } = await import('./services-host.ts')
    return this.#keep(host.queueEndpoint, await openLocalQueue(host.queueEndpoint))
  }

  close(): void {
    this.#open?.queue.close()
    this.#open = undefined
  }

  #keep(at: string, queue: Queue): Queue {
    this.close()
    this.#open = { at, queue }
    return queue
  }

  async #onAws(aws: NonNullable<Project['aws']>): Promise<Queue> {
    const { awsServices } = await import('./services-aws.ts')
    using services = awsServices(this.#project, aws)
    return services.queue()
  }
}
