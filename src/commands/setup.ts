import { boolean } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'

export default class Setup extends BaseCommand<typeof Setup> {
  static override summary =
    'Create what bake.yaml needs on AWS: queues, the ledger’s bucket, ECR repositories, the network for proofs.'
  static override description =
    'Prints a plan, then asks (or takes --yes) and applies it. What is there and as it should be is left alone; what differs is part of the plan. Deletes nothing. Can be run again at any time. With --policies it prints IAM policies with exactly the permissions that bake uses, by role, and looks at nothing.'
  static override examples = [
    { description: 'see what would be done', command: '<%= config.bin %> setup --dry-run' },
    '<%= config.bin %> setup --yes',
    { description: 'the policy of a worker’s role', command: '<%= config.bin %> setup --policies | jq .worker' },
  ]
  static override flags = {
    yes: boolean({ char: 'y', description: 'apply the plan without asking' }),
    'dry-run': boolean({ description: 'print the plan, change nothing' }),
    policies: boolean({
      description:
        'print IAM policies for person, worker, builder (pulls images only), setup; for AMIs baker, prover and pruner, where workers bake asker; for groups deployer; for swaps swapper and swappable',
      exclusive: ['yes', 'dry-run'],
    }),
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { openStores, setupTarget } = await import('../context/setup.ts')
    const { applySetup, planSetup, policiesFor, policyNotes } = await import('../setup.ts')
    const { setupLines, setupSummary } = await import('../cli/setup-lines.ts')
    const target = setupTarget(await openProject(), process.env)
    if (this.flags.policies) {
      this.tell('warning', policyNotes(target))
      const policies = policiesFor(target)
      this.log(JSON.stringify(policies, null, 2))
      return { policies }
    }
    await using account = openStores(target)
    const plan = await planSetup(target, account.stores)
    this.tell('info', plan.notes)
    for (const line of setupLines(plan, this.paint)) this.log(line)
    this.partial = { plan: plan.steps, notes: plan.notes, applied: 0 }
    if (plan.steps.length === 0 || this.flags['dry-run']) return this.partial
    if (!this.flags.yes) {
      await this.settled()
      const { askYes } = await import('../cli/ask-yes.ts')
      const terminal = { input: process.stdin, output: process.stderr, signal: this.interrupt, json: this.jsonEnabled() }
      await askYes(`${setupSummary(plan.steps)}. Go on?`, { ...terminal, otherwise: 'bake setup --yes' })
    }
    await applySetup(plan, account.stores, { emit: this.emit, signal: this.interrupt })
    return { ...this.partial, applied: plan.steps.length }
  }

  private tell(level: 'info' | 'warning', texts: string[]): void {
    for (const text of texts) this.emit({ type: 'notice', level, text })
  }
}
