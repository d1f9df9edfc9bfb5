import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Depth, Lane, Message, Queue } from '../../src/io/queue.ts'

export interface QueueUnderTest {
  queue: Queue
  /** A second client of the same queues, as another process would have. */
  other: Queue
  /** How many queues each lane has; 1 unless told. */
  shards?: number
  /** The bytes that `send` takes at most. */
  maxBodyBytes: number
  /** What the dead-letter queue holds: bodies with their reasons. Takes them out. */
  dead(): Promise<{ body: string; reason: string | undefined }[]>
  close(): Promise<void>
}

const now = { max: 10, waitSeconds: 0, visibilitySeconds: 30 }

/** What every Queue must do (src/io/queue.ts). `open` gives empty queues that nobody else uses. */
export function queueContract(name: string, open: () => Promise<QueueUnderTest>): void {
  describe(`${name} as a Queue`, () => {
    let under: QueueUnderTest
    let queue: Queue
    const body = () => JSON.stringify({ test: randomUUID() })
    const one = async (lane: Lane = 'normal', visibilitySeconds = 30): Promise<Message> => {
      const [message] = await queue.receive(lane, { max: 1, waitSeconds: 2, visibilitySeconds })
      if (message === undefined) throw new Error('nothing was received')
      return message
    }
    const drain = async (lane: Lane): Promise<string[]> => {
      const bodies: string[] = []
      for (;;) {
        const messages = await queue.receive(lane, now)
        if (messages.length === 0) return bodies
        for (const message of messages) {
          bodies.push(message.body)
          await queue.remove(message)
        }
      }
    }

    const allPlaces = () =>
      (['high', 'normal'] as const).flatMap((lane) => Array.from({ length: queue.shards }, (_, shard) => ({ lane, shard })))

    beforeEach(async () => {
      under = await open()
      queue = under.queue
    })
    afterEach(() => under?.close())

    it('delivers everything that was sent, in any order', async () => {
      const sent = Array.from({ length: 12 }, body)
      await Promise.all(sent.map((text) => queue.send('normal', text)))
      expect((await drain('normal')).sort()).toEqual(sent.sort())
    })

    it('tells id, receipt, receives and the time it was sent', async () => {
      const before = Date.now()
      await queue.send('normal', 'x')
      const message = await one()
      expect(message).toMatchObject({ lane: 'normal', body: 'x', receives: 1 })
      expect(message.id).not.toBe('')
      expect(message.receipt).not.toBe('')
      expect(Math.abs(message.sentAtMs - before)).toBeLessThan(5_000)
    })

    it('keeps the lanes apart', async () => {
      await queue.send('high', 'urgent')
      expect(await queue.receive('normal', now)).toEqual([])
      expect(await drain('high')).toEqual(['urgent'])
    })

    it('keeps every character of a JSON body', async () => {
      const value = { text: 'tab\t newline\n nul\0 "quoted" \\ü 漢 🥐 \ud83e \ufffe \uffff' }
      await queue.send('normal', JSON.stringify(value))
      expect(JSON.parse((await one()).body)).toEqual(value)
    })

    it('gives no more than asked for', async () => {
      await Promise.all(['a', 'b', 'c'].map((text) => queue.send('normal', text)))
      expect(await queue.receive('normal', { ...now, max: 2 })).toHaveLength(2)
    })

    it('wakes a long poll as soon as a message is sent', async () => {
      const started = performance.now()
      const poll = queue.receive('normal', { max: 1, waitSeconds: 20, visibilitySeconds: 30 })
      await sleep(300)
      await under.other.send('normal', 'wake')
      const [message] = await poll
      expect(message?.body).toBe('wake')
      expect(performance.now() - started).toBeLessThan(1_500)
    })

    it('ends an empty long poll with nothing after its time', async () => {
      const started = performance.now()
      expect(await queue.receive('normal', { max: 1, waitSeconds: 1, visibilitySeconds: 30 })).toEqual([])
      expect(performance.now() - started).toBeGreaterThan(900)
    })

    it('ends a long poll on abort, and what is sent next goes to the next poller at once', async () => {
      const abort = new AbortController()
      const poll = queue.receive('normal', { max: 1, waitSeconds: 20, visibilitySeconds: 60, signal: abort.signal })
      await sleep(200)
      const started = performance.now()
      abort.abort()
      expect(await poll).toEqual([])
      expect(performance.now() - started).toBeLessThan(200)
      await under.other.send('normal', 'after the abort')
      let got: Message[] = []
      while (got.length === 0 && performance.now() - started < 5_000)
        got = await under.other.receive('normal', { max: 1, waitSeconds: 1, visibilitySeconds: 30 })
      expect(got.map(({ body }) => body)).toEqual(['after the abort'])
      expect(performance.now() - started).toBeLessThan(3_000)
    })

    it('has settled when no receive that was given up can swallow a message any more', async () => {
      const abort = new AbortController()
      const poll = queue.receive('normal', { max: 1, waitSeconds: 2, visibilitySeconds: 60, signal: abort.signal })
      await sleep(200)
      abort.abort()
      expect(await poll).toEqual([])
      await queue.settled()
      await under.other.send('normal', 'after that')
      const got = await under.other.receive('normal', { max: 1, waitSeconds: 5, visibilitySeconds: 30 })
      expect(got.map(({ body }) => body)).toEqual(['after that'])
    })

    it('asks nothing when the signal is aborted already', async () => {
      await queue.send('normal', 'stays')
      expect(await queue.receive('normal', { ...now, signal: AbortSignal.abort() })).toEqual([])
      expect((await one()).receives).toBe(1)
    })

    it('hides a received message, and delivers it again when the time is over', async () => {
      await queue.send('normal', 'again')
      await one('normal', 1)
      expect(await under.other.receive('normal', now)).toEqual([])
      const second = await under.other.receive('normal', { max: 1, waitSeconds: 5, visibilitySeconds: 30 })
      expect(second[0]).toMatchObject({ body: 'again', receives: 2 })
    })

    it('renew extends the hiding', async () => {
      await queue.send('normal', 'renewed')
      const message = await one('normal', 1)
      await queue.renew(message, 30)
      await sleep(1_300)
      expect(await under.other.receive('normal', now)).toEqual([])
      await queue.remove(message)
    })

    it('renew with 0 hands the message back', async () => {
      await queue.send('normal', 'handed back')
      await queue.renew(await one(), 0)
      expect(await drain('normal')).toEqual(['handed back'])
    })

    it('renew of an expired receipt throws message_lost, and the new owner keeps it', async () => {
      await queue.send('normal', 'lost')
      const first = await one('normal', 1)
      const [second] = await under.other.receive('normal', { max: 1, waitSeconds: 5, visibilitySeconds: 30 })
      await expect(queue.renew(first, 30)).rejects.toMatchObject({ code: 'message_lost', kind: 'world' })
      await under.other.renew(second!, 30)
      await under.other.remove(second!)
    })

    it('remove deletes, and once more is no error', async () => {
      await queue.send('normal', 'done')
      const message = await one('normal', 1)
      await queue.remove(message)
      await queue.remove(message)
      await expect(queue.renew(message, 30)).rejects.toMatchObject({ code: 'message_lost' })
      await sleep(1_200)
      expect(await queue.receive('normal', now)).toEqual([])
    })

    it('bury moves the message to the dead letters, with the reason', async () => {
      await queue.send('high', 'poison')
      await queue.bury(await one('high', 1), 'five workers were lost\nover it')
      await sleep(1_200)
      expect(await queue.receive('high', now)).toEqual([])
      expect((await queue.depth()).dead).toBe(1)
      expect(await under.dead()).toEqual([{ body: 'poison', reason: 'five workers were lost over it' }])
    })

    it('depth counts what is visible and in flight over both lanes', async () => {
      await queue.send('normal', 'a')
      await queue.send('high', 'b')
      expect(await queue.depth()).toMatchObject({ visible: 2, inFlight: 0, delayed: 0 })
      const message = await one('high')
      expect(await queue.depth()).toMatchObject({ visible: 1, inFlight: 1 })
      await queue.remove(message)
      expect(await queue.depth()).toMatchObject({ visible: 1, inFlight: 0 })
    })

    it('keeps the shards of both lanes apart, and tells where a message came from', async () => {
      expect(queue.shards).toBe(under.shards ?? 1)
      const places = allPlaces()
      for (const { lane, shard } of places) await queue.send(lane, JSON.stringify({ lane, shard }), shard)
      for (const { lane, shard } of places) {
        const received = await under.other.receive(lane, { ...now, shard })
        expect(received).toMatchObject([{ lane, shard, body: JSON.stringify({ lane, shard }) }])
      }
    })

    it('sends to and receives from shard 0 when none is told', async () => {
      await queue.send('normal', 'a')
      await queue.send('normal', 'b', 0)
      expect((await drain('normal')).sort()).toEqual(['a', 'b'])
      for (let shard = 1; shard < queue.shards; shard++) expect(await queue.receive('normal', { ...now, shard })).toEqual([])
    })

    it('renews, hands back, removes and buries in the shard of the message', async () => {
      const shard = queue.shards - 1
      for (const text of ['kept', 'handed back', 'removed', 'buried']) {
        await queue.send('high', text, shard)
        const [message] = await queue.receive('high', { max: 1, waitSeconds: 2, visibilitySeconds: 30, shard })
        expect(message?.body).toBe(text)
        if (text === 'kept') await queue.renew(message!, 60)
        else if (text === 'handed back') {
          await queue.renew(message!, 0)
          const [again] = await under.other.receive('high', { max: 1, waitSeconds: 2, visibilitySeconds: 30, shard })
          expect(again).toMatchObject({ body: text, shard })
          await under.other.remove(again!)
        } else if (text === 'removed') await queue.remove(message!)
        else await queue.bury(message!, 'why')
      }
      expect(await queue.depth()).toMatchObject({ visible: 0, inFlight: 1, dead: 1 })
      expect(await under.dead()).toEqual([{ body: 'buried', reason: 'why' }])
    })

    it('depths tells each queue on its own', async () => {
      for (const { lane, shard } of allPlaces())
        for (let n = 0; n <= shard + (lane === 'high' ? 1 : 0); n++) await queue.send(lane, `${n}`, shard)
      const [taken] = await queue.receive('normal', { ...now, max: 1, shard: queue.shards - 1 })
      expect(taken).toBeDefined()
      const wanted = allPlaces().map(({ lane, shard }) => {
        const inFlight = lane === 'normal' && shard === queue.shards - 1 ? 1 : 0
        return { lane, shard, visible: shard + 1 + (lane === 'high' ? 1 : 0) - inFlight, inFlight, delayed: 0 }
      })
      const order = (depths: Depth[]) => depths.map((depth) => JSON.stringify(Object.entries(depth).sort())).sort()
      expect(order(await queue.depths())).toEqual(order(wanted))
    })

    it('takes a body of the largest size, which bury still moves with its reason', async () => {
      const large = 'x'.repeat(under.maxBodyBytes)
      await queue.send('normal', large)
      const message = await one()
      expect(message.body.length).toBe(large.length)
      await queue.bury(message, 'r'.repeat(5_000))
      const [dead] = await under.dead()
      expect(dead?.body.length).toBe(large.length)
      expect(dead?.reason).toMatch(/^r+$/)
    })

    it('refuses a body over the limit, counted in bytes', async () => {
      const tooLarge = { code: 'message_too_large', exit: 2 }
      await expect(queue.send('normal', 'x'.repeat(256 * 1024))).rejects.toMatchObject(tooLarge)
      await expect(queue.send('normal', 'x'.repeat(under.maxBodyBytes + 1))).rejects.toMatchObject(tooLarge)
      await expect(queue.send('normal', 'ü'.repeat(under.maxBodyBytes / 2 + 1))).rejects.toMatchObject(tooLarge)
      expect(await queue.receive('normal', now)).toEqual([])
    })
  })
}
