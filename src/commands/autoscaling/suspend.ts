import { option, string } from '@oclif/core/flags'
import { BaseCommand } from '../../cli/base.ts'
import { PROCESSES } from '../../scaling-processes.ts'

export default class Suspend extends BaseCommand<typeof Suspend> {
  static override summary = 'Keep an auto-scaling group from changing its instances by itself.'
  static override description =
    'Suspends AlarmNotification, AZRebalance, HealthCheck, ReplaceUnhealthy and ScheduledActions, or the processes that are named. Prints all that are suspended then.'
  static override examples = ['<%= config.bin %> autoscaling suspend --stack production']
  static override flags = {
    stack: string({ required: true, description: 'name of one of stacks in bake.yaml, with autoscaling_group' }),
    process: option({
      options: PROCESSES,
      description: 'process to suspend (repeatable); default: what changes instances by itself',
      multiple: true,
      multipleNonGreedy: true,
    })(),
  }

  async run(): Promise<object> {
    const { setProcesses } = await import('../../context/stacks.ts')
    const { stack, process: processes = [] } = this.flags
    const done = await setProcesses({ stack, on: false, processes }, { emit: this.emit, signal: this.interrupt })
    for (const name of done.suspended) this.log(name)
    return done
  }
}
