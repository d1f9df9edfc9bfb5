import { BaseCommand } from '../cli/base.ts'

export default class Host extends BaseCommand<typeof Host> {
  static override hidden = true
  static override summary = 'The services of one machine: queue, registry, default worker. Started by whoever needs it.'

  async run(): Promise<object> {
    const { openProject } = await import('../context/project.ts')
    const { runProjectHost } = await import('../context/host.ts')
    await runProjectHost(await openProject())
    return {}
  }
}
