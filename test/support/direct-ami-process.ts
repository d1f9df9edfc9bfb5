/** Bakes a release of a test world as an AMI by the direct baker, in a process that BAKE_FAILPOINT ends between two steps: argv is `{ release, …DirectAmiOptions }`. */
import { bakeRelease } from '../../src/ami/bake.ts'
import { ASK } from './bake-world.ts'
import { type DirectAmiOptions, makeDirectAmiWorld } from './direct-ami-world.ts'

const { release, ...options } = JSON.parse(process.argv[2]!) as DirectAmiOptions & { release: string }
await using world = await makeDirectAmiWorld(options)
const { status } = await bakeRelease({ ...ASK, release }, world)
process.stdout.write(`${status}\n`)
