import { integer, option, string } from '@oclif/core/flags'
import { BaseCommand } from '../cli/base.ts'

export default class Builds extends BaseCommand<typeof Builds> {
  static override summary = 'List builds, and bakes on workers, newest first.'
  static override examples = ['<%= config.bin %> builds', '<%= config.bin %> builds --image web --status failed --limit 5']
  static override flags = {
    image: string({ description: 'only builds of this image; machine, machine-2, …: bakes' }),
    branch: string({ description: 'only builds asked for on this branch' }),
    sha: string({ description: 'only builds of this commit (full or short)' }),
    status: option({
      options: ['queued', 'waiting', 'running', 'built', 'tagged', 'failed', 'cancelled', 'superseded'] as const,
      description: 'only builds in this state',
    })(),
    limit: integer({ description: 'how many', default: 20, min: 1, max: 10_000 }),
  }

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { listBuilds } = await import('../jobs/history.ts')
    const { wakeFor } = await import('../context/unfinished.ts')
    const { buildsTable } = await import('../cli/builds-table.ts')
    const { image, branch, sha, status, limit } = this.flags
    const project = await openProject()
    const { builds, damaged } = await listBuilds(project.ledger, { image, branch, commit: sha?.toLowerCase(), status, limit })
    const records = damaged === 1 ? 'record is' : 'records are'
    if (damaged > 0) this.emit({ type: 'notice', level: 'warning', text: `${damaged} build ${records} damaged and left out` })
    if (builds.length > 0) this.log(buildsTable(builds, this.paint))
    else this.emit({ type: 'notice', level: 'info', text: 'no builds' })
    await wakeFor(builds, project, this.emit)
    return { builds }
  }
}
