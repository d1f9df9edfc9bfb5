import { latency } from './fleet/latency.ts'
import { emulatedNoop, noop } from './fleet/noop.ts'
import { storm } from './fleet/storm.ts'

/**
 * `npm run bench -- fleet [jobs [storm,latency,noop]]`: 1,000 jobs and workers that are killed over and over; how soon an idle worker claims;
 * how many jobs without work a worker does in a second. Issue 3's bars: lost, double, live_claims and leaked 0; claim p50 and p99 at most
 * 150 ms and 1 s over the emulators' own round trip; at least 20 jobs per second.
 */
export default async function fleet(jobs = 1000, parts = ['storm', 'latency', 'noop']): Promise<object> {
  return {
    ...(parts.includes('storm') ? await storm(jobs) : {}),
    ...(parts.includes('latency') ? await latency() : {}),
    ...(parts.includes('noop') ? { ...(await noop()), ...(await emulatedNoop()) } : {}),
  }
}
