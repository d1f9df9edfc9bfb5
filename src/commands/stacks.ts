import { BaseCommand } from '../cli/base.ts'

export default class Stacks extends BaseCommand<typeof Stacks> {
  static override summary =
    'What runs where: release, machine image and instances of each stack, and what differs from the record.'
  static override examples = ['<%= config.bin %> stacks', '<%= config.bin %> stacks --json']

  async run(): Promise<object> {
    const { stacksOf } = await import('../context/stacks.ts')
    const { stacksTable } = await import('../cli/stacks-table.ts')
    const stacks = await stacksOf({ emit: this.emit, signal: this.interrupt })
    if (stacks.length > 0) this.log(stacksTable(stacks, this.paint))
    else this.emit({ type: 'notice', level: 'info', text: 'bake.yaml has no stacks: docs/deploy.md' })
    return { stacks }
  }
}
