import { string } from '@oclif/core/args'
import { BaseCommand, storyFlags } from '../cli/base.ts'

export default class Verify extends BaseCommand<typeof Verify> {
  static override summary = 'Prove that a release’s machine image starts all its services without a network.'
  static override description =
    'Boots a throwaway copy of a disk twice at the same time, once with no network card and once with a network that answers nothing; an AMI once, as an instance in a subnet without routes. Records that a release is proven, and tells nobody (notify: is of bake ami). Waits for every health check and compares running digests with the manifest. Prints the seconds from power-on to healthy. Exit code 3: not proven, with the reason of each service.'
  static override examples = [
    '<%= config.bin %> verify v2',
    '<%= config.bin %> verify ./disk.qcow2 --json',
    '<%= config.bin %> verify ami-0123456789abcdef0',
  ]
  static override args = {
    what: string({ required: true, ignoreStdin: true, description: 'a release, an AMI’s id or the path of a disk' }),
  }
  static override flags = { ...storyFlags }

  async run(): Promise<object> {
    const { verify } = await import('../context/verify.ts')
    const { proofTable } = await import('../cli/proof-table.ts')
    const verified = await verify({ what: this.args.what, emit: this.emit, settled: this.settled, signal: this.interrupt })
    for (const { image, proof } of verified) {
      if (verified.length > 1) this.log(image)
      this.log(proofTable(proof, this.paint, process.stdout.columns).join('\n'))
    }
    const [first, ...also] = verified
    return { ...first, ...(also.length > 0 && { also }) }
  }
}
