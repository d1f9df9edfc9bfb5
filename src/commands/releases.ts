import { BaseCommand } from '../cli/base.ts'

export default class Releases extends BaseCommand<typeof Releases> {
  static override summary = 'List releases and their machine images, newest first.'
  static override examples = ['<%= config.bin %> releases', '<%= config.bin %> releases --json']

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { releasesOf } = await import('../context/releases.ts')
    const { releaseOf, releasesTable } = await import('../cli/releases-table.ts')
    const { releases, damaged } = await releasesOf(await openProject(), this.interrupt)
    const records = damaged === 1 ? 'record is' : 'records are'
    if (damaged > 0) this.emit({ type: 'notice', level: 'warning', text: `${damaged} release ${records} damaged and left out` })
    if (releases.length > 0) this.log(releasesTable(releases, this.paint))
    else this.emit({ type: 'notice', level: 'info', text: 'no releases yet: bake ami --release TAG bakes the first' })
    return { releases: releases.map(releaseOf) }
  }
}
