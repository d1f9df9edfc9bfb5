import { string } from '@oclif/core/args'
import { boolean } from '@oclif/core/flags'
import { BaseCommand, storyFlags } from '../cli/base.ts'
import { reportImages } from '../cli/image-report.ts'
import type { Project } from '../context/project.ts'
import type { BuildRecord } from '../jobs/records.ts'

export default class Retry extends BaseCommand<typeof Retry> {
  static override summary = 'Ask again for what a build, or a bake, was asked for.'
  static override description =
    'Of a build: same commit, image and pins, as a new build. Of a bake on a worker: bake ami for the same release, so for all of its machine images, proven, without --no-verify, --baker, --default and --explain. What is published by now is found, not made again.'
  static override examples = ['<%= config.bin %> retry ybr15gj57-3fgtss', '<%= config.bin %> retry latest --no-wait']
  static override args = {
    id: string({ required: true, ignoreStdin: true, description: 'id of a build or bake, its beginning, or latest' }),
  }
  static override flags = {
    wait: boolean({ description: 'follow it to its end', default: true, allowNo: true }),
    ...storyFlags,
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { askForImages } = await import('../context/asker.ts')
    const { findBuild } = await import('../jobs/history.ts')
    const project = await openProject()
    const record = await findBuild(project.ledger, this.args.id)
    if (record.machine) return this.bakeAgain(project, record, record.machine.release)
    const { commit, branch, image, rebuild, priority } = record
    const asked = await askForImages(project, {
      subject: { sha: commit },
      ...(branch === undefined ? {} : { branch }),
      ...{ images: [image], rebuild, priority },
      wait: this.flags.wait,
      dryRun: false,
      emit: this.emit,
      settled: this.settled,
      signal: this.interrupt,
    })
    const report = reportImages(asked)
    for (const line of report.lines) this.log(line)
    this.partial = report.document
    if (report.error) throw report.error
    return report.document
  }

  /** Proven, as long as nobody says otherwise; what is baked by now is found. */
  private async bakeAgain(project: Project, { commit, rebuild }: BuildRecord, release: string): Promise<object> {
    const { bakeAmi } = await import('../context/ami.ts')
    const { reportBakes } = await import('../cli/machine-report.ts')
    const { emit, settled, interrupt: signal, flags } = this
    const ask = { release, sha: commit, verify: true, rebake: rebuild, keepFailed: false }
    const { made, failure } = await bakeAmi(project, ask, { emit, settled, signal, wait: flags.wait })
    const report = reportBakes(made)
    for (const line of report.lines) this.log(line)
    this.partial = report.document
    if (failure !== undefined) throw failure
    return report.document
  }
}
