/** Uploads blocks of random bytes as a bake does, in a process that a test can kill: argv is `{ parents, blocks, tags }`. EBS and EC2 are where the environment says. */
import { randomBytes } from 'node:crypto'
import { BLOCK_BYTES } from '../../src/ami/direct/blocks.ts'
import { Pace } from '../../src/ami/direct/pace.ts'
import { type ParentSnapshot, uploadBlocks } from '../../src/ami/direct/upload.ts'
import { Ebs } from '../../src/io/ebs.ts'
import { Ec2 } from '../../src/io/ec2.ts'
import { Ec2Snapshots } from '../../src/io/ec2-snapshots.ts'

interface Ask {
  parents: ParentSnapshot[]
  blocks: number
  tags: Record<string, string>
}

const { parents, blocks, tags } = JSON.parse(process.argv[2]!) as Ask
const indexes = [...Array(blocks).keys()]
const changed = { diskBytes: 2 ** 30, indexes, read: async () => randomBytes(BLOCK_BYTES) }
const world = {
  ebs: (region: string) => new Ebs(region),
  snapshots: (region: string) => new Ec2Snapshots(new Ec2(region), { pollMs: 5 }),
  ...{ pace: new Pace(), signal: new AbortController().signal, tell() {} },
}
const uploaded = await uploadBlocks({ changed, parents, description: 'a test', tags }, world)
uploaded.keep()
process.stdout.write(JSON.stringify([...uploaded.snapshots]))
process.exit(0)
