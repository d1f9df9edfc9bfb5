// Child process of the crash tests: a worker that bakes, which BAKE_FAILPOINT ends between two steps.
// `node bake-worker.ts <dir> <registry> <queue's endpoint> <name>`
import { openJobQueue, startBakeWorker } from './bake-jobs.ts'

const [dir, registry, endpoint, name] = process.argv.slice(2)
if (dir === undefined || registry === undefined || endpoint === undefined || name === undefined)
  throw new Error('usage: bake-worker.ts <dir> <registry> <endpoint> <name>')
const queue = await openJobQueue(endpoint)
await using worker = startBakeWorker({ dir, registry, queue, name, once: true })
await worker.done
queue.close()
