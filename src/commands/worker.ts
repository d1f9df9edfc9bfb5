import { boolean, integer, string } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'

export default class Worker extends BaseCommand<typeof Worker> {
  static override summary = 'Take builds from the queue: one member of the fleet.'
  static override description =
    `Runs until it is stopped. The first Ctrl-C or SIGTERM drains: what runs is finished, nothing new is taken. The second kills
what runs and hands it back to the queue. On one machine a worker is started by itself when work is asked for; this is for more of them, or to watch one.`
  static override examples = [
    '<%= config.bin %> worker',
    '<%= config.bin %> worker --slots 4 --name big',
    '<%= config.bin %> worker --once',
  ]
  static override flags = {
    once: boolean({ default: false, description: 'take one job, finish it, end' }),
    slots: integer({
      description: 'builds at a time (default: worker.slots of bake.yaml, else the number of processors, at least 2)',
      min: 1,
      max: 64,
      env: 'BAKE_WORKER_SLOTS',
    }),
    name: string({ description: 'name of this worker; its caches belong to it', env: 'BAKE_WORKER_NAME' }),
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { runStandaloneWorker } = await import('../context/standalone-worker.ts')
    const note = (level: 'info' | 'warning', text: string) => this.emit({ type: 'notice', level, text })
    let worker: { name: string; slots: number } | undefined
    this.signals.drain.addEventListener('abort', () =>
      note('info', 'finishing what runs, taking nothing new; a second Ctrl-C or SIGTERM hands it back to the queue'),
    )
    await runStandaloneWorker(await openProject(), {
      ...this.flags,
      emit: this.emit,
      drain: this.signals.drain,
      abort: this.signals.abort,
      onReady: (ready) => {
        worker = ready
        note('info', `worker ${ready.name} is ready: ${ready.slots} slots`)
      },
      onProblem: (text) => note('warning', text),
    })
    note('info', 'worker drained')
    return { ...worker }
  }
}
