import { boolean, integer, option, string } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'
import type { ErrorReport } from '../cli/report.ts'
import type { WorkerLog } from '../cli/worker-log.ts'

export default class Worker extends BaseCommand<typeof Worker> {
  static override summary = 'Take builds, and with --bakes machine images, from the queue: one member of the fleet.'
  static override description =
    `Runs until it is stopped. The first Ctrl-C or SIGTERM drains: what runs is finished, nothing new is taken. The second, or the end of --drain-seconds,
kills what runs and hands it back to the queue. On one machine a worker is started by itself when work is asked for; this is for more of them, or to watch one.`
  static override examples = [
    '<%= config.bin %> worker',
    '<%= config.bin %> worker --slots 4 --name big',
    '<%= config.bin %> worker --listen 127.0.0.1:9464 --log-format json',
  ]
  static override flags = {
    once: boolean({ default: false, description: 'take one job, finish it, end' }),
    slots: integer({
      description: 'builds at a time (default: worker.slots of bake.yaml, else the number of processors, at least 2)',
      min: 1,
      max: 64,
      env: 'BAKE_WORKER_SLOTS',
    }),
    bakes: boolean({
      allowNo: true,
      description: 'take bakes of machine images too (default: worker.bakes of bake.yaml)',
      env: 'BAKE_WORKER_BAKES',
    }),
    name: string({ description: 'name of this worker; its caches belong to it', env: 'BAKE_WORKER_NAME' }),
    listen: string({ description: 'serve /healthz and Prometheus /metrics at HOST:PORT', env: 'BAKE_WORKER_LISTEN' }),
    'drain-seconds': integer({
      description: 'how long a drain may take (default: 80 after SIGTERM, no limit after Ctrl-C)',
      min: 0,
      max: 43_200,
      env: 'BAKE_DRAIN_SECONDS',
    }),
    'log-format': option({
      options: ['text', 'json'] as const,
      default: 'text',
      env: 'BAKE_LOG',
      description: 'json: each line on stderr is an object with time, level, worker, message, build, image',
      helpGroup: 'OUTPUT',
    })(),
  }

  private lines: WorkerLog | undefined

  async run(): Promise<object> {
    const { openWorkerLog, workForFleet } = await import('../cli/work.ts')
    const { name, slots, bakes, once, listen, json } = this.flags
    this.lines = openWorkerLog(json ? 'json' : this.flags['log-format'], this.emit)
    const flags = { name, slots, bakes, once, listen, drainSeconds: this.flags['drain-seconds'] }
    return workForFleet(flags, this.signals, this.lines)
  }

  protected override printFailure(report: ErrorReport): void {
    if (this.lines?.fatal) this.lines.fatal(report)
    else super.printFailure(report)
  }
}
