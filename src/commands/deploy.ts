import { boolean, option, string } from '@oclif/core/flags'
import { BaseCommand, storyFlags } from '../cli/base.ts'

export default class Deploy extends BaseCommand<typeof Deploy> {
  static override summary = 'Bring a release onto the instances of an auto-scaling group.'
  static override description =
    `Bakes the release if it has no machine image yet, shows a plan, asks, then replaces the instances by an instance refresh: a numbered launch template version, back by itself when it fails.
With --strategy full, for releases that can't run beside the old one: doubles the group, drains the old instances, runs hooks.migrate once, and only then lets the new ones serve.
After Ctrl-C the same command goes on with it, and bake rollback takes it back.`
  static override examples = [
    { description: 'a git tag', command: '<%= config.bin %> deploy --stack production --release v2' },
    { description: 'what would be done', command: '<%= config.bin %> deploy --stack production --release v2 --dry-run' },
    {
      description: 'that cannot run beside the old one',
      command: '<%= config.bin %> deploy --stack production --release v2 --strategy full',
    },
    { description: 'in a script', command: '<%= config.bin %> deploy --stack production --release v2 --yes' },
  ]
  static override flags = {
    stack: string({ required: true, description: 'name of one of stacks in bake.yaml, with autoscaling_group' }),
    release: string({ required: true, description: 'release to deploy, as bake releases lists them, or a git tag' }),
    strategy: option({
      options: ['rolling', 'full'] as const,
      default: 'rolling',
      description: 'a few instances at a time, or all at once with an outage between old and new',
    })(),
    'migrate-done': boolean({
      default: false,
      description: 'migrate failed, or nobody knows how it ended, and you have looked: the data is as the new release needs it',
    }),
    'dry-run': boolean({ default: false, description: 'print the plan; bake and change nothing', exclusive: ['yes'] }),
    yes: boolean({ char: 'y', default: false, description: 'do not ask' }),
    ...storyFlags,
  }

  async run(): Promise<object> {
    const { prepareDeploy } = await import('../context/deploy.ts')
    const { runPrepared } = await import('../cli/deploy.ts')
    const { stack, release, strategy, yes, 'dry-run': dryRun, 'migrate-done': migrateDone } = this.flags
    const request = { emit: this.emit, settled: this.settled, signal: this.interrupt }
    await using prepared = await prepareDeploy({ stack, release, strategy, dryRun, migrateDone }, request)
    const command = `bake deploy --stack ${stack} --release ${release}${strategy === 'full' ? ' --strategy full' : ''}${migrateDone ? ' --migrate-done' : ''}`
    return await runPrepared(prepared, { ...this.terminal, ...request, yes, dryRun, stack, command })
  }
}
