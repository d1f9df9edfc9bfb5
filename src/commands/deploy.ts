import { boolean, string } from '@oclif/core/flags'
import { BaseCommand, storyFlags } from '../cli/base.ts'

export default class Deploy extends BaseCommand<typeof Deploy> {
  static override summary = 'Bring a release onto the instances of an auto-scaling group.'
  static override description =
    `Bakes the release if it has no machine image yet, shows a plan, asks, then replaces the instances by an instance refresh: a numbered launch template version, back by itself when it fails.
Ctrl-C leaves the refresh going on: the same command goes on with it, bake rollback takes it back.`
  static override examples = [
    { description: 'a git tag', command: '<%= config.bin %> deploy --stack production --release v2' },
    { description: 'what would be done', command: '<%= config.bin %> deploy --stack production --release v2 --dry-run' },
    { description: 'in a script', command: '<%= config.bin %> deploy --stack production --release v2 --yes' },
  ]
  static override flags = {
    stack: string({ required: true, description: 'name of one of stacks in bake.yaml, with autoscaling_group' }),
    release: string({ required: true, description: 'release to deploy, as bake releases lists them, or a git tag' }),
    'dry-run': boolean({ default: false, description: 'print the plan; bake and change nothing', exclusive: ['yes'] }),
    yes: boolean({ char: 'y', default: false, description: 'do not ask' }),
    ...storyFlags,
  }

  async run(): Promise<object> {
    const { prepareDeploy } = await import('../context/deploy.ts')
    const { runPrepared } = await import('../cli/deploy.ts')
    const { stack, release, yes, 'dry-run': dryRun } = this.flags
    const request = { emit: this.emit, settled: this.settled, signal: this.interrupt }
    await using prepared = await prepareDeploy({ stack, release, dryRun }, request)
    const command = `bake deploy --stack ${stack} --release ${release}`
    return await runPrepared(prepared, { ...this.terminal, ...request, yes, dryRun, stack, command })
  }
}
