import { string } from '@oclif/core/args'
import { BaseCommand } from '../cli/base.ts'

export default class Cancel extends BaseCommand<typeof Cancel> {
  static override summary = 'Cancel a build that is queued or running.'
  static override examples = ['<%= config.bin %> cancel ybr15gj57-3fgtss', '<%= config.bin %> cancel latest']
  static override strict = false
  static override args = {
    id: string({
      required: true,
      ignoreStdin: true,
      description: 'build id, the beginning of one, or latest; several are taken',
    }),
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { cancelBuilds } = await import('../context/cancel.ts')
    const ids = this.argv.filter((word) => !word.startsWith('-'))
    const cancelled = await cancelBuilds(await openProject(), ids, { emit: this.emit, signal: this.interrupt })
    for (const { build, status, stopped } of cancelled)
      this.log(`${build} ${stopped ? 'cancelled' : `had ended already: ${status}`}`)
    return { builds: cancelled }
  }
}
