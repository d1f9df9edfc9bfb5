import { boolean, integer } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'
import { prunedLines } from '../cli/pruned-lines.ts'

export default class Prune extends BaseCommand<typeof Prune> {
  static override summary = 'Delete what bakes left that nothing needs any more.'
  static override description =
    'One pass marks, a later one deletes what is still not needed: directories of bakes that were killed, machine images that no record names and, with --keep, those of older releases. What a live bake works on is left alone.'
  static override examples = [
    '<%= config.bin %> prune --dry-run',
    { description: 'also machine images of all but the ten newest releases', command: '<%= config.bin %> prune --keep 10' },
  ]
  static override flags = {
    keep: integer({
      description: 'releases, the newest, that keep their machine images; all unless told',
      min: 1,
      helpValue: 'N',
    }),
    'dry-run': boolean({ default: false, description: 'print what would be marked and deleted; change nothing' }),
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { pruneProject } = await import('../context/prune.ts')
    const { keep, 'dry-run': dryRun } = this.flags
    const pruned = await pruneProject(await openProject(), { keep, dryRun, signal: this.interrupt })
    for (const line of prunedLines(pruned, dryRun)) this.log(line)
    if (pruned.length === 0) this.emit({ type: 'notice', level: 'info', text: 'nothing to prune' })
    return { dry_run: dryRun, pruned }
  }
}
