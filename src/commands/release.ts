import { string } from '@oclif/core/args'
import { BaseCommand } from '../cli/base.ts'

export default class Release extends BaseCommand<typeof Release> {
  static override summary =
    'Show one release: its commit, its images by digest, its machine images and their proofs, and where it runs.'
  static override description =
    'Where it runs is what deployments and swaps have recorded; bake stacks looks at the instances themselves.'
  static override examples = ['<%= config.bin %> release v2', '<%= config.bin %> release v2 --json']
  static override args = { name: string({ required: true, ignoreStdin: true, description: 'name of a release' }) }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { releaseShown } = await import('../context/releases.ts')
    const { releaseDetails, releaseOf, runsOnOf } = await import('../cli/releases-table.ts')
    const found = await releaseShown(await openProject(), this.args.name, this.interrupt)
    this.log(releaseDetails(found, this.paint))
    return { ...releaseOf(found), runs_on: found.on.map(runsOnOf) }
  }
}
