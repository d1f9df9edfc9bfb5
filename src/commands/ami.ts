import { amiFlags } from '../cli/ami-flags.ts'
import { BaseCommand } from '../cli/base.ts'
import { reportBakes, reportPreviews } from '../cli/machine-report.ts'

export default class Ami extends BaseCommand<typeof Ami> {
  static override summary = 'Bake a release into a machine image that starts without a network, and prove it.'
  static override description =
    `A release is a git tag: its commit's images, by digest, go onto the base that its bake.yaml names. Images that aren't built yet are built first.
The same inputs are baked once, whoever asks: asked for again the machine image is found. It is proven by booting a copy of it without a network.
stdout has one line for each: the AMI's id or, on one machine, the path of the disk; with --no-wait, where workers bake, the ids of their bakes.`
  static override examples = [
    { description: 'the release of git tag v2', command: '<%= config.bin %> ami --release v2' },
    { description: 'a commit, as release sha-1a2b3c4d5e6f', command: '<%= config.bin %> ami --sha 1a2b3c4' },
    { description: 'what would be done, and why', command: '<%= config.bin %> ami --release v2 --dry-run' },
    {
      description: 'once more, leaving a failed disk to look into',
      command: '<%= config.bin %> ami --release v2 --keep-failed',
    },
  ]
  static override flags = amiFlags

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { bakeAmi, previewAmi } = await import('../context/ami.ts')
    const { release, sha, verify, rebake, default: makeDefault, 'dry-run': dryRun, 'keep-failed': keepFailed } = this.flags
    const subject = { ...(release !== undefined && { release }), ...(sha !== undefined && { sha }) }
    const ask = { ...subject, verify, rebake, keepFailed, makeDefault }
    const { 'refresh-base': refreshBase, here, wait, explain } = this.flags
    const baker = this.flags.baker as 'packer' | 'direct' | undefined
    const request = { emit: this.emit, settled: this.settled, signal: this.interrupt, refreshBase, here, wait, baker, explain }
    const project = await openProject()
    const bakes = dryRun ? undefined : await bakeAmi(project, ask, request)
    const report = bakes ? reportBakes(bakes.made) : reportPreviews(await previewAmi(project, ask, request))
    if (!this.jsonEnabled()) for (const text of report.story ?? []) this.emit({ type: 'notice', level: 'info', text })
    for (const line of report.lines) this.log(line)
    // With --json what was made is told beside the error.
    this.partial = report.document
    if (bakes?.failure !== undefined) throw bakes.failure
    return report.document
  }
}
