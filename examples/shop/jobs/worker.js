import { setTimeout as sleep } from 'node:timers/promises'
import ms from 'ms'
import { nanoid } from 'nanoid'

const EVERY_MS = ms(process.env.EVERY ?? '5s')
const stop = new AbortController()
process.once('SIGTERM', () => stop.abort())

while (!stop.signal.aborted) {
  console.log(`order ${nanoid(8)}: in the oven`)
  await sleep(EVERY_MS, undefined, { signal: stop.signal }).catch(() => {})
}
