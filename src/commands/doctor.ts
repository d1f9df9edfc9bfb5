import { BaseCommand } from '../cli/base.ts'
import { hasColours } from '../cli/style.ts'

export default class Doctor extends BaseCommand<typeof Doctor> {
  static override summary = 'Check everything that bake needs, and print the fix for what is missing.'
  static override description =
    'Exit code 0: nothing failed (warnings are told and change nothing); 2: only bake.yaml is invalid; 4: a tool, service, permission or disk space is missing. With --json: {version, checks: [{id, status, detail, fix}]}, status ok, warning, failed or skipped.'
  static override examples = [
    '<%= config.bin %> doctor',
    {
      description: 'what failed, for a script',
      command: '<%= config.bin %> doctor --json | jq -r \'.checks[] | select(.status == "failed") | .fix\'',
    },
  ]

  async run(): Promise<object> {
    const { examine, exitOf } = await import('../doctor.ts')
    const { openWorld } = await import('../doctor/world.ts')
    const { doctorLines, doctorSummary } = await import('../cli/doctor-lines.ts')
    const checks = await examine(openWorld(process.cwd()), this.interrupt)
    for (const line of doctorLines(checks, this.paint, hasColours(process.stdout))) this.log(line)
    this.emit({ type: 'notice', level: 'info', text: doctorSummary(checks) })
    process.exitCode = exitOf(checks)
    return { checks }
  }
}
