import { string } from '@oclif/core/args'
import { boolean } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'
import { cancelledLine } from '../cli/cancelled-line.ts'

export default class Cancel extends BaseCommand<typeof Cancel> {
  static override summary = 'Cancel a build, or a bake on a worker, that is queued or running.'
  static override description =
    'Others may wait for the same content: then only this one lets go of it, and the work goes on for them, unless --force cancels theirs too.'
  static override examples = [
    '<%= config.bin %> cancel ybr15gj57-3fgtss',
    '<%= config.bin %> cancel latest',
    { description: 'stop it, whoever waits for it', command: '<%= config.bin %> cancel ybr15gj57-3fgtss --force' },
  ]
  static override strict = false
  static override args = {
    id: string({
      required: true,
      ignoreStdin: true,
      description: 'id of a build or a bake, the beginning of one, or latest; several are taken',
    }),
  }
  static override flags = {
    force: boolean({ default: false, description: 'also cancel the builds of everybody else who asked for the same content' }),
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { cancelBuilds } = await import('../context/cancel.ts')
    const ids = this.argv.filter((word) => !word.startsWith('-'))
    const { force } = this.flags
    const builds = await cancelBuilds(await openProject(), ids, { force, emit: this.emit, signal: this.interrupt })
    for (const each of builds) this.log(cancelledLine(each))
    return { builds }
  }
}
