import { string } from '@oclif/core/args'
import { BaseCommand } from '../cli/base.ts'

export default class Build extends BaseCommand<typeof Build> {
  static override summary = 'Show one build, or bake on a worker: what was asked for, who did it, how it ended.'
  static override examples = ['<%= config.bin %> build ybr15gj57-3fgtss', '<%= config.bin %> build latest --json']
  static override args = {
    id: string({ required: true, ignoreStdin: true, description: 'id of a build or bake, its beginning, or latest' }),
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { findBuild } = await import('../jobs/history.ts')
    const { buildDetails } = await import('../cli/builds-table.ts')
    const { wakeFor } = await import('../context/unfinished.ts')
    const project = await openProject()
    const build = await findBuild(project.ledger, this.args.id)
    this.log(buildDetails(build, this.paint))
    await wakeFor([build], project, this.emit)
    return { build }
  }
}
