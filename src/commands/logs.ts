import { string } from '@oclif/core/args'
import { boolean } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'

export default class Logs extends BaseCommand<typeof Logs> {
  static override summary = 'Print the log of a build, or of a bake.'
  static override description =
    'With --json (and --json --follow) each event is one line of JSON. A build that waited for another with the same inputs shows the log of that one.'
  static override examples = ['<%= config.bin %> logs latest', '<%= config.bin %> logs ybr15gj57-3fgtss --follow']
  static override args = {
    id: string({ required: true, ignoreStdin: true, description: 'build id, the beginning of one, or latest' }),
  }
  static override flags = {
    follow: boolean({ default: false, char: 'f', description: 'go on until the build ends; Ctrl-C leaves it running' }),
  }
  /** Its --json is a stream of lines, not one document. */
  static override enableJsonFlag = false
  static override baseFlags = { json: boolean({ description: 'one JSON line per event' }) } as never

  async run(): Promise<void> {
    const { openProject } = await import('../context/project.ts')
    const { findBuild } = await import('../jobs/history.ts')
    const { printLog } = await import('../cli/print-log.ts')
    const project = await openProject()
    const { printBakeLog } = await import('../cli/print-bake-log.ts')
    const { follow } = this.flags
    const asJson = (this.flags as { json?: boolean }).json ?? false
    const options = { follow, json: asJson, signal: this.interrupt, stream: process.stdout }
    const bake = await printBakeLog(this.args.id, project, options)
    if (bake) return this.end(bake)
    const record = await findBuild(project.ledger, this.args.id)
    const { joinFor } = await import('../context/unfinished.ts')
    using services = follow ? await joinFor(record, project, this.emit, this.interrupt) : undefined
    const signal = services ? AbortSignal.any([this.interrupt, services.lost]) : this.interrupt
    const ended = await printLog(record, project, { ...options, signal })
    if (ended.endedAt === undefined && !this.interrupt.aborted) services?.lost.throwIfAborted()
    this.end(ended)
  }

  private end({ status, failure }: { status: string; failure?: { exit: number } | undefined }): void {
    this.interrupt.throwIfAborted()
    if (this.flags.follow && status === 'failed') process.exitCode = failure?.exit ?? 3
  }
}
