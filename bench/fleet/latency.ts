import { readClaims } from '../../src/jobs/claims.ts'
import { readBuild } from '../../src/jobs/records.ts'
import { keys } from '../../src/names.ts'
import { makeFleet, type TestFleet } from '../../test/support/fleet.ts'
import { median, round, say } from '../support.ts'
import { ask } from './ask.ts'

const SAMPLES = 100
const WARM_UP = 3

/** How long after an asker sends a job the claim of an idle worker stands, and how long the emulator takes for the calls in between alone. */
export async function latency(): Promise<object> {
  await using fleet = await makeFleet()
  const idle = await fleet.worker('idle', { built: true })
  const took: number[] = []
  for (let n = 0; n < SAMPLES + WARM_UP; n++) {
    const commit = await fleet.repo.commit({ 'web/server.js': `console.log(${n})\n` })
    const [asked] = (await ask(fleet, commit, true)).outcomes
    const record = await readBuild(fleet.ledger, asked!.build!)
    const [claimed] = (await readClaims(fleet.ledger, record!.key)).entries
    if (n >= WARM_UP) took.push(claimed!.at - record!.askedAt)
  }
  // It would take the messages that are measured.
  idle.kill('SIGTERM')
  await idle.wait()
  const rtt = await roundTrips(fleet)
  took.sort((a, b) => a - b)
  const p99 = took[Math.ceil(took.length * 0.99) - 1]!
  say(`claim: p50 ${median(took)} ms, p99 ${p99} ms; the emulator alone ${round(rtt)} ms (bar p50 150 and p99 1000 over it)`)
  return { claim_p50_ms: median(took), claim_p99_ms: p99, emulator_rtt_ms: round(rtt) }
}

/** The calls between sending a job and having claimed it, one after the other: send, receive, the record, the cancellation, the log, the claim. */
async function roundTrips(fleet: TestFleet): Promise<number> {
  const took: number[] = []
  for (let n = 0; n < SAMPLES; n++) {
    const key = n.toString(16).padStart(64, '0')
    const started = performance.now()
    const polled = fleet.queue.receive('high', { max: 1, waitSeconds: 5, visibilitySeconds: 30 })
    await fleet.queue.send('high', '{}')
    const [message] = await polled
    await fleet.ledger.get(keys.build('0'))
    await fleet.ledger.list(keys.claims(key))
    await fleet.ledger.get(keys.cancel('0'))
    await fleet.ledger.create(keys.claim(key, 0), { nonce: `${n}` })
    took.push(performance.now() - started)
    if (message) await fleet.queue.remove(message)
  }
  return median(took)
}
