import { string } from '@oclif/core/flags'
import { BaseCommand, storyFlags } from '../cli/base.ts'

export default class Base extends BaseCommand<typeof Base> {
  static override summary = 'Make a bootable Debian 12 disk with Docker, to bake machine images from.'
  static override description =
    'For machine.base.disk in bake.yaml. Made from this machine’s own Debian packages; takes root, 2 GB of room and 1 to 3 minutes. A disk that was made the same way is found. The path of the disk is printed; beside it lies <disk>.json, which says what is in it.'
  static override examples = [
    'sudo <%= config.bin %> base',
    { description: 'with more room for images', command: 'sudo <%= config.bin %> base --out disks/base.raw --size 8GB' },
  ]
  static override flags = {
    out: string({ default: 'base.raw', description: 'file to write, a raw disk' }),
    size: string({ default: '4GB', description: 'what the disk holds; the file takes only what is used' }),
    ...storyFlags,
  }

  async run(): Promise<object> {
    const { makeBase } = await import('../context/base.ts')
    const { baseLine } = await import('../cli/base-line.ts')
    const made = await makeBase({ out: this.flags.out, size: this.flags.size, emit: this.emit, signal: this.interrupt })
    this.emit({ type: 'notice', level: 'info', text: baseLine(made) })
    this.log(made.disk)
    return made
  }
}
