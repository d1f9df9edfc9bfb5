import { string } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'

export default class Render extends BaseCommand<typeof Render> {
  static override summary = 'Write what a release is baked with: units, scripts and Packer template, for review.'
  static override description =
    'Everything under files/ goes onto the machine, steps/ is what runs there while it is baked. stdout has the path of each file.'
  static override examples = ['<%= config.bin %> render --release v2 --out rendered']
  static override flags = {
    release: string({ description: 'git tag, or with --sha the name of the release' }),
    sha: string({ description: 'commit, 4 or more digits' }),
    out: string({ required: true, description: 'directory to write to, empty or not there yet' }),
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { renderRelease } = await import('../context/ami.ts')
    const { release, sha, out } = this.flags
    const request = { emit: this.emit, settled: this.settled, signal: this.interrupt }
    const ask = { ...(release !== undefined && { release }), ...(sha !== undefined && { sha }) }
    const rendered = await renderRelease(await openProject(), ask, out, request)
    for (const file of rendered.files) this.log(file)
    return rendered
  }
}
