import { boolean, string } from '@oclif/core/flags'
import { BaseCommand, storyFlags } from '../cli/base.ts'

export default class Swap extends BaseCommand<typeof Swap> {
  static override summary = 'Replace running images of a stack in seconds; what is not well is put back.'
  static override description =
    `Builds what is missing, then replaces one service after the other: pull by digest, start, health check, or back to what ran before (exit code 3).
A stack with local: true runs machine.services of bake.yaml on this machine's engine. On AWS every instance of the stack is swapped at once, by Systems Manager with bake's own document.`
  static override examples = [
    { description: 'HEAD, all services', command: '<%= config.bin %> swap --stack dev' },
    { description: 'only what runs image web', command: '<%= config.bin %> swap --stack dev --image web' },
    { description: 'as a release has it', command: '<%= config.bin %> swap --stack dev --release v2' },
    { description: 'stop and remove all of it', command: '<%= config.bin %> swap --stack dev --down' },
  ]
  static override flags = {
    stack: string({ required: true, description: 'name of one of stacks in bake.yaml' }),
    image: string({ description: 'only services that run this image (repeatable)', multiple: true, multipleNonGreedy: true }),
    sha: string({ description: 'commit, 4 or more digits; default: HEAD', exclusive: ['branch', 'release'] }),
    branch: string({ description: 'branch whose tip to run', exclusive: ['release'] }),
    release: string({ description: 'release to run, by its images’ digests' }),
    atomic: boolean({ default: false, description: 'when one service (on AWS: on one instance) is not well, put all back' }),
    down: boolean({
      default: false,
      description: 'remove the stack’s containers',
      exclusive: ['image', 'sha', 'branch', 'release', 'atomic'],
    }),
    ...storyFlags,
  }

  async run(): Promise<object> {
    const { swap, swapDown } = await import('../context/swap.ts')
    const { swapLines } = await import('../cli/swap-lines.ts')
    const { stack, image: images = [], sha, branch, release, atomic, down } = this.flags
    const signal = this.interrupt
    if (down) {
      const done = await swapDown({ stack })
      for (const name of done.removed) this.log(name)
      return done
    }
    const what = {
      ...(sha !== undefined && { sha }),
      ...(branch !== undefined && { branch }),
      ...(release !== undefined && { release }),
    }
    const { done, failure } = await swap({ stack, images, ...what, atomic, emit: this.emit, settled: this.settled, signal })
    for (const line of swapLines(done)) this.log(line)
    // With --json what was done is told beside the error.
    this.partial = done
    if (failure) throw failure
    return done
  }
}
