import { boolean, string } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'

export default class Init extends BaseCommand<typeof Init> {
  static override summary = 'Write a bake.yaml from the Dockerfiles, compose.yaml or docker-bake file that are here.'
  static override description =
    'Asks on a terminal, else takes everything that can be built. Services of compose that only name an image are left out. Prints the path of what it wrote.'
  static override examples = [
    '<%= config.bin %> init',
    { description: 'see what would be written', command: '<%= config.bin %> init --dry-run' },
    { description: 'without questions', command: '<%= config.bin %> init --yes --project shop --from deploy/compose.yaml' },
  ]
  static override flags = {
    project: string({ description: "name of the project; default: the directory's" }),
    from: string({ description: 'read this compose file, docker-bake file or Dockerfile' }),
    yes: boolean({ char: 'y', description: 'ask nothing' }),
    force: boolean({ description: 'replace a bake.yaml that is there' }),
    'dry-run': boolean({ description: 'print the file, write nothing' }),
  }

  async run(): Promise<object> {
    const { applyInit, planInit, planText, schemaFor } = await import('../init.ts')
    const { printBake } = await import('../init/world.ts')
    const { project, from, yes, force, 'dry-run': dryRun } = this.flags
    const dir = process.cwd()
    let plan = await planInit({ dir, project, from, force }, (request) => printBake({ ...request, signal: this.interrupt }))
    for (const text of plan.notes) this.emit({ type: 'notice', level: 'warning', text })
    for (const { name, reason } of plan.leftOut) this.emit({ type: 'notice', level: 'info', text: `left out ${name}: ${reason}` })
    if (!yes && !dryRun && !this.jsonEnabled() && process.stdin.isTTY && process.stderr.isTTY) {
      await this.settled()
      const { askInit } = await import('../cli/ask-init.ts')
      plan = await askInit(plan, { input: process.stdin, output: process.stderr, signal: this.interrupt })
    }
    const text = planText(plan, await schemaFor(dir))
    if (!dryRun) await applyInit(plan, text)
    this.log(dryRun ? text.trimEnd() : plan.file)
    if (!dryRun) this.emit({ type: 'notice', level: 'info', text: 'next: git add bake.yaml, commit it, then bake image' })
    for (const secret of new Set(plan.images.flatMap((image) => image.secrets ?? [])))
      this.emit({
        type: 'notice',
        level: 'info',
        text: `secret ${secret}: set BAKE_SECRET_${secret.toUpperCase().replace(/[^A-Z0-9]/g, '_')} where bake runs`,
      })
    const { file, source, images, leftOut, notes } = plan
    return { file, project: plan.project, source, written: !dryRun, images, leftOut, notes, text }
  }
}
