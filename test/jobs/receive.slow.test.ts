import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type BakeError, unavailable } from '../../src/errors.ts'
import type { Queue } from '../../src/io/queue.ts'
import { receiveUntil } from '../../src/jobs/receive.ts'
import { Slots } from '../../src/jobs/slots.ts'
import { waitFor } from '../../src/wait.ts'

/** What the receive loop makes of a queue that answers so; SQS's own answers are in the contract suites. */
async function receiveFrom(answer: (shard: number) => BakeError | undefined) {
  const asked: number[] = []
  const problems: string[] = []
  const stop = new AbortController()
  const queue: Pick<Queue, 'receive' | 'shards'> = {
    shards: 1,
    async receive(_lane, { shard = 0, waitSeconds, signal }) {
      asked.push(shard)
      const error = answer(shard)
      if (error) throw error
      await sleep(waitSeconds * 1000, undefined, signal && { signal }).catch(() => {})
      return []
    },
  }
  const done = receiveUntil(stop.signal, {
    queue,
    slots: new Slots(1),
    stealAfterMs: 60_000,
    visibilitySeconds: 60,
    once: false,
    accept: async () => {},
    onProblem: (text) => problems.push(text),
  })
  await waitFor(() => (asked.includes(1) ? true : undefined), { what: 'a look beyond', deadlineMs: 40_000, intervalMs: 50 })
  // Were it asked again like a queue that fails, that would be after two seconds.
  await sleep(3_000)
  stop.abort()
  await done
  return { looks: asked.filter((shard) => shard === 1).length, problems }
}

test.each(['queue_missing', 'queue_denied'])(
  'a queue beyond those of bake.yaml that is %s is no problem, and looked for seldom',
  async (code) => {
    expect(await receiveFrom((shard) => (shard === 1 ? unavailable(code, 'no') : undefined))).toEqual({ looks: 1, problems: [] })
  },
)

test('one that fails otherwise is told', async () => {
  const { problems } = await receiveFrom((shard) => (shard === 1 ? unavailable('queue_unreachable', 'down') : undefined))
  expect(problems).toContain('queue: down')
})
