// Child process of the crash tests: bakes release v1 of a test world, which BAKE_FAILPOINT ends between two steps.
// `node bake-machine.ts <dir> <registry>`
import { bakeRelease } from '../../src/ami/bake.ts'
import { ASK, makeBakeWorld } from './bake-world.ts'

const [dir, registry] = process.argv.slice(2)
if (dir === undefined || registry === undefined) throw new Error('usage: bake-machine.ts <dir> <registry>')
await using world = await makeBakeWorld({ dir, registry })
const { status } = await bakeRelease(ASK, world)
process.stdout.write(`${status}\n`)
