import { option, string } from '@oclif/core/flags'
import { BaseCommand } from '../../cli/base.ts'
import { PROCESSES } from '../../scaling-processes.ts'

export default class Resume extends BaseCommand<typeof Resume> {
  static override summary = 'Let an auto-scaling group change its instances by itself again.'
  static override description = 'Resumes all processes, or those that are named. Prints all that are still suspended then.'
  static override examples = ['<%= config.bin %> autoscaling resume --stack production']
  static override flags = {
    stack: string({ required: true, description: 'name of one of stacks in bake.yaml, with autoscaling_group' }),
    process: option({
      options: PROCESSES,
      description: 'process to resume (repeatable); default: all',
      multiple: true,
      multipleNonGreedy: true,
    })(),
  }

  async run(): Promise<object> {
    const { setProcesses } = await import('../../context/stacks.ts')
    const { stack, process: processes = [] } = this.flags
    const done = await setProcesses({ stack, on: true, processes }, { emit: this.emit, signal: this.interrupt })
    for (const name of done.suspended) this.log(name)
    return done
  }
}
