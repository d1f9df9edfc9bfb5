import { integer, string } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'

export default class History extends BaseCommand<typeof History> {
  static override summary = 'Who deployed what to a stack, when, and how it ended; newest first.'
  static override examples = ['<%= config.bin %> history', '<%= config.bin %> history --stack production --json']
  static override flags = {
    stack: string({ description: 'only this stack; default: all of bake.yaml' }),
    limit: integer({ default: 20, min: 1, description: 'how many of each stack' }),
  }

  async run(): Promise<object> {
    const { deploymentsOf } = await import('../context/stacks.ts')
    const { deploymentOf, deploymentsTable } = await import('../cli/deployments-table.ts')
    const { stack, limit } = this.flags
    const found = await deploymentsOf({ ...(stack !== undefined && { stack }), limit })
    if (found.length > 0) this.log(deploymentsTable(found, this.paint))
    else this.emit({ type: 'notice', level: 'info', text: 'nothing was deployed yet' })
    return { deployments: found.map(deploymentOf) }
  }
}
