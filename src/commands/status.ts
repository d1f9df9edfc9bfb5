import { boolean, integer } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'
import { EXIT } from '../errors.ts'

export default class Status extends BaseCommand<typeof Status> {
  static override summary = 'Show the fleet: workers, what they build and how warm they are, queues, last failures.'
  static override description =
    'On a terminal the view goes on until Ctrl-C. Looking starts nothing: on one machine without a host process it says so.'
  static override examples = ['<%= config.bin %> status', '<%= config.bin %> status --once', '<%= config.bin %> status --json']
  static override flags = {
    once: boolean({ default: false, description: 'look once, also on a terminal' }),
    interval: integer({ default: 2, min: 1, max: 3600, description: 'seconds between two looks of the live view' }),
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { openFleet } = await import('../context/status.ts')
    const { statusLines } = await import('../cli/status-lines.ts')
    using fleet = openFleet(await openProject())
    const { stdout } = process
    const live = stdout.isTTY && !this.flags.once && !this.jsonEnabled() && process.env.TERM !== 'dumb'
    if (live) {
      const { watchFleet } = await import('../cli/status-live.ts')
      const everyMs = this.flags.interval * 1000
      await watchFleet(() => fleet.look(), { stream: stdout, paint: this.paint, everyMs, signal: this.interrupt })
      process.exitCode = EXIT.interrupted
      return {}
    }
    const status = await fleet.look()
    this.log(statusLines(status, { columns: stdout.columns, now: status.at, paint: this.paint }).join('\n'))
    return status
  }
}
