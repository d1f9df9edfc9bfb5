import { boolean, string } from '@oclif/core/flags'
import { BaseCommand, storyFlags } from '../cli/base.ts'

export default class Rollback extends BaseCommand<typeof Rollback> {
  static override summary = 'Take a deployment back, or bring a stack to an earlier release.'
  static override description =
    `While a deployment goes on it is turned round. Else the launch template version from before the newest deployment is deployed, or with --to a release that was baked.
Needs neither the commit nor its images: the machine image has all of it.`
  static override examples = [
    { description: 'to what ran before', command: '<%= config.bin %> rollback --stack production' },
    { description: 'to a certain release', command: '<%= config.bin %> rollback --stack production --to v1' },
  ]
  static override flags = {
    stack: string({ required: true, description: 'name of one of stacks in bake.yaml, with autoscaling_group' }),
    to: string({ description: 'release to go back to; default: what ran before the newest deployment' }),
    'migrate-undone': boolean({
      default: false,
      description: 'migrate failed, or nobody knows how it ended, and you have looked: the data is as the old release needs it',
      exclusive: ['to'],
    }),
    'dry-run': boolean({ default: false, description: 'print the plan; change nothing', exclusive: ['yes'] }),
    yes: boolean({ char: 'y', default: false, description: 'do not ask' }),
    ...storyFlags,
  }

  async run(): Promise<object> {
    const { prepareRollback } = await import('../context/deploy.ts')
    const { runPrepared } = await import('../cli/deploy.ts')
    const { stack, to, yes, 'dry-run': dryRun, 'migrate-undone': migrateUndone } = this.flags
    const request = { emit: this.emit, settled: this.settled, signal: this.interrupt }
    await using prepared = await prepareRollback({ stack, ...(to !== undefined && { to }), migrateUndone }, request)
    const command = `bake rollback --stack ${stack}${to === undefined ? '' : ` --to ${to}`}${migrateUndone ? ' --migrate-undone' : ''}`
    return await runPrepared(prepared, { ...this.terminal, ...request, yes, dryRun, stack, command })
  }
}
