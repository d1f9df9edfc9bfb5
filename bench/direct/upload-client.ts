/** Uploads random blocks as a bake does, to AWS_ENDPOINT_URL_EBS: `upload-client.ts BLOCKS`. stdout: `{ ms, cpuMs, hashMs, blocks }`, processor time but for `ms`. */
import { createHash, randomBytes } from 'node:crypto'
import { BLOCK_BYTES } from '../../src/ami/direct/blocks.ts'
import { Pace } from '../../src/ami/direct/pace.ts'
import { uploadBlocks } from '../../src/ami/direct/upload.ts'
import { Ebs } from '../../src/io/ebs.ts'

const count = Number(process.argv[2])
const HASHED = 400
/** What nobody can compress, and no cache holds twice in a row; made before the clock starts. */
const kept = Array.from({ length: 128 }, () => randomBytes(BLOCK_BYTES))
const ebs = new Ebs('us-east-1')
const state = {
  id: 'snap-0123456789abcdef0',
  region: 'us-east-1',
  state: 'completed',
  volumeBytes: 2 ** 30,
  encrypted: false,
  tags: {},
}
const snapshots = { get: async () => state, waitCompleted: async () => state, remove: async () => {} }

const upload = async (blocks: number) => {
  const indexes = [...Array(blocks).keys()]
  const changed = { diskBytes: 2 ** 40, indexes, read: async (index: number) => kept[index % kept.length]! }
  const parents = [{ region: state.region, id: state.id }]
  const signal = new AbortController().signal
  const world = {
    ebs: () => ebs,
    snapshots: () => snapshots,
    pace: new Pace({ perSecond: Number.POSITIVE_INFINITY }),
    signal,
    tell() {},
  }
  const uploaded = await uploadBlocks({ changed, parents, description: 'bench', tags: { a: 'b' } }, world)
  uploaded.keep()
}

// Connections, and code that is compiled by now.
await upload(100)
const began = performance.now()
const before = process.cpuUsage()
await upload(count)
const ms = performance.now() - began
const cpuMs = cpuSince(before)
const hashing = process.cpuUsage()
for (let each = 0; each < HASHED; each++)
  createHash('sha256')
    .update(kept[each % kept.length]!)
    .digest()
const hashMs = (cpuSince(hashing) / HASHED) * count
process.stdout.write(`${JSON.stringify({ ms, cpuMs, hashMs, blocks: count })}\n`)
await ebs[Symbol.asyncDispose]()

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}
