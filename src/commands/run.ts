import { string as stringArg } from '@oclif/core/args'
import { boolean, string } from '@oclif/core/flags'
import { BaseCommand, storyFlags } from '../cli/base.ts'

export default class Run extends BaseCommand<typeof Run> {
  static override summary = 'Boot a release’s disk in a virtual machine on this machine.'
  static override description =
    'The disk itself isn’t changed: each run starts from what was baked. Ctrl-C presses the power button, a second one pulls the plug. The serial console is the story on stderr.'
  static override examples = [
    { description: 'its port 80 as http://127.0.0.1:8080', command: '<%= config.bin %> run v2 --port 8080:80' },
    { description: 'root’s shell on it', command: '<%= config.bin %> run v2 --shell' },
    '<%= config.bin %> run ./disk.qcow2',
  ]
  static override args = {
    release: stringArg({ required: true, ignoreStdin: true, description: 'a release, or the path of a disk' }),
  }
  static override flags = {
    port: string({
      multiple: true,
      multipleNonGreedy: true,
      description: 'H:G, port H of 127.0.0.1 leads to the machine’s port G (repeatable); 0 for any free port',
    }),
    shell: boolean({
      default: false,
      description: 'a shell of root’s on the machine, which ends with it; needs an SSH server on the disk',
    }),
    ...storyFlags,
  }

  async run(): Promise<object> {
    const { runRelease } = await import('../context/run.ts')
    const { port: ports = [], shell } = this.flags
    const { drain, abort } = this.signals
    return runRelease({ what: this.args.release, ports, shell, emit: this.emit, giveTerminal: this.giveTerminal, drain, abort })
  }
}
