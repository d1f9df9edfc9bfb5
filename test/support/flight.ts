import type { BuildRecord } from '../../src/jobs/records.ts'
import { waitFor } from '../../src/wait.ts'
import type { BakeOptions, RunningBake } from './bake.ts'
import { type Gate, startGate } from './gate.ts'
import { makeProject, type TestProject, WEB_FILES } from './project.ts'
import { openRawQueue } from './queue.ts'

/** No lease is so short that a machine under load loses it, none so long that a test waits for it. */
const ENV = { BAKE_DEFAULT_WORKER: '0', BAKE_LEASE_SECONDS: '3', BAKE_VISIBILITY_SECONDS: '5', BAKE_HOST_LINGER_MS: '30000' }

export interface Asker {
  commit: string
  build: string
  asking: RunningBake
}

/** A project whose web image stands before a gate, so that several can ask for one key while its build runs. */
export interface Flight extends AsyncDisposable {
  readonly project: TestProject
  readonly gate: Gate
  worker(name: string, options?: BakeOptions & { slots?: number }): Promise<RunningBake>
  /** Commits something outside of every context, asks for that commit's image and follows it: another build of the same key. */
  ask(options?: BakeOptions): Promise<Asker>
  /** The record of a build, once it is as wanted. */
  record(build: string, status?: BuildRecord['status'], deadlineMs?: number): Promise<BuildRecord>
  /** What the claim log of the key of `commit` tells: `claimed`, `published`, `failed: cancelled`. */
  states(commit: string): Promise<string[]>
  /** Settles when the queue holds nothing any more. */
  drained(): Promise<void>
}

export async function openFlight(more: { env?: Record<string, string>; files?: Record<string, string> } = {}): Promise<Flight> {
  await using stack = new AsyncDisposableStack()
  const gate = stack.use(await startGate())
  const files = { ...WEB_FILES, 'web/Dockerfile': gate.dockerfile, ...more.files }
  const project = await makeProject(files, { ...ENV, ...more.env })
  const processes: RunningBake[] = []
  stack.defer(async () => {
    gate.open()
    for (const each of processes) await each[Symbol.asyncDispose]()
    await project[Symbol.asyncDispose]()
  })
  let asked = 0
  const owned = stack.move()
  return {
    project,
    gate,
    async worker(name, { slots = 2, ...options } = {}) {
      const worker = project.start(['worker', '--name', name, '--slots', String(slots)], options)
      processes.push(worker)
      await worker.waitFor('stderr', /is ready/)
      return worker
    },
    async ask(options = {}) {
      const known = new Set((await project.builds()).map(({ build }) => build))
      const commit = await project.repo.commit({ 'README.md': `asked ${++asked}\n` })
      const asking = project.start(['image'], options)
      processes.push(asking)
      const build = await waitFor(
        async () => (await project.builds()).find((record) => record.commit === commit && !known.has(record.build))?.build,
        { what: 'the record of an ask', deadlineMs: 20_000, intervalMs: 50 },
      )
      return { commit, build, asking }
    },
    record: (build, status, deadlineMs = 20_000) =>
      waitFor(
        async () => {
          const record = (await project.builds()).find((each) => each.build === build)
          return record && (status === undefined || record.status === status) ? record : undefined
        },
        { what: `build ${build} to be ${status}`, deadlineMs, intervalMs: 50 },
      ),
    states: async (commit) =>
      (await project.claims(commit)).entries.map((entry) => (entry.state === 'failed' ? `failed: ${entry.cause}` : entry.state)),
    async drained() {
      await using queue = await openRawQueue(project.dir)
      await waitFor(
        async () => {
          const { visible, inFlight, delayed, dead } = await queue.depth()
          return visible + inFlight + delayed + dead === 0 ? true : undefined
        },
        { what: 'an empty queue', deadlineMs: 30_000, intervalMs: 100 },
      )
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
