import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BakeError } from '../../src/errors.ts'
import { type HostWorker, runHost } from '../../src/io/host/process.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'

/**
 * `bake host` with a worker that only notes in worker.log that it was started, stopped or killed, and, where TEST_JOB_MS is set, takes jobs that long
 * each, and takes TEST_STOP_MS to stop. Arguments: state directory, root, version, `registry` if one is needed. Exit codes: 0 when another host runs, 10 at its own end.
 */
const [stateDir = '', root = '', version = '', registry] = process.argv.slice(2)
const jobMs = process.env.TEST_JOB_MS
const note = (text: string) => appendFile(join(stateDir, 'worker.log'), `${text}\n`)

async function startWorker({ queueEndpoint }: { queueEndpoint: string }): Promise<HostWorker> {
  if (process.env.TEST_WORKER_FAILS) throw new Error('the engine is on fire')
  await note('start')
  const drain = new AbortController()
  let busy = false
  const working = jobMs === undefined ? Promise.resolve() : work()
  return {
    busy: () => busy,
    async stop() {
      drain.abort()
      await working
      await sleep(Number(process.env.TEST_STOP_MS ?? 0))
      await note('stop')
    },
    async kill() {
      await note('kill')
    },
    ahead: ({ repository, commit }) => void note(`ahead ${repository} ${commit}`),
  }

  async function work(): Promise<void> {
    const queue = await SqsQueue.open({ endpoint: queueEndpoint, region: 'us-east-1', prefix: 'bake' })
    while (!drain.signal.aborted) {
      const poll = { max: 1, waitSeconds: 20, visibilitySeconds: 60, signal: drain.signal }
      for (const message of await queue.receive('normal', poll)) {
        busy = true
        await note(`job ${message.body}`)
        await sleep(Number(jobMs))
        await queue.remove(message)
        await note(`done ${message.body}`)
        busy = false
      }
    }
    queue.close()
  }
}

try {
  const result = await runHost({ stateDir, root, version, needsRegistry: registry === 'registry', startWorker })
  process.exit(result === 'already_running' ? 0 : 10)
} catch (error) {
  process.exit(error instanceof BakeError ? error.exit : 1)
}
