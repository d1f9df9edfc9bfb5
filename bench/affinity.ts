import { type Outcome, type Simulated, simulate } from './affinity/simulate.ts'
import { say } from './support.ts'

/** What `npm run bench -- warm` measures as hot_ms and cold_ms; BAKE_BENCH_HOT_MS and BAKE_BENCH_COLD_MS put a machine's own in their place. */
const HOT_MS = Number(process.env.BAKE_BENCH_HOT_MS ?? 4_000)
const COLD_MS = Number(process.env.BAKE_BENCH_COLD_MS ?? 20_000)
const SEEDS = [1, 2, 3, 4, 5]
const BASE: Omit<Simulated, 'seed' | 'rate'> = {
  workers: 20,
  slots: 1,
  // As many as workers: two workers each, and two or three images (docs/decisions/2026-11-21-affinity.md).
  shards: 20,
  stealAfterMs: 60_000,
  images: 50,
  jobs: 10_000,
  warmMs: HOT_MS,
  coldMs: COLD_MS,
  warmForMs: 2 * 3_600_000,
  // 40 GB of cache at 5 GB per image. With it random routing is 44 % warm.
  cacheImages: 8,
  roundTripMs: 20,
  churnMs: 0,
}
const CHURN_MS = 10 * 60_000
/** Of the slots' time, with the build times that random routing has: what both are compared at. */
const LOAD = 0.6

type Change = Partial<Typical>
type Typical = typeof BASE & { load: number }

/** The figures; with the part `sensitivity`, also what they become when one thing is different. */
export default async function affinity(seeds = SEEDS.length, parts: string[] = []): Promise<object> {
  const settings = { ...BASE, load: LOAD, seeds }
  const calm = compare('no churn', settings)
  const churn = compare('a worker dies every 10 minutes', { ...settings, churnMs: CHURN_MS })
  if (parts.includes('sensitivity')) for (const [name, change] of SENSITIVITY) compare(name, { ...settings, ...change })
  return {
    ...figures(calm),
    churn: figures(churn),
    seeds,
    worst_seed_warm_share: share(calm.worst),
    requests_per_worker_hour: Math.round(calm.routed.requestsPerWorkerHour),
  }
}

const SENSITIVITY: [string, Change][] = [
  ...[6, 7, 10, 12].map((cacheImages): [string, Change] => [`${cacheImages} images in the cache`, { cacheImages }]),
  ...[10, 16, 24, 32].map((shards): [string, Change] => [`${shards} shards`, { shards }]),
  ['cold 2 × hot', { warmMs: COLD_MS / 2 }],
  ['cold 10 × hot', { warmMs: COLD_MS / 10 }],
  ['builds of minutes (1 and 5)', { warmMs: 60_000, coldMs: 300_000 }],
  ['2 slots each', { slots: 2 }],
  ['80 % load', { load: 0.8 }],
  ['30 % load', { load: 0.3 }],
  ['5 workers, 5 shards', { workers: 5, shards: 5, cacheImages: 16 }],
  ['half of the workers are gone, shards stay', { workers: 8 }],
  ['100 ms round trip', { roundTripMs: 100 }],
]

interface Compared {
  routed: Outcome
  random: Outcome
  /** Least warm share of all seeds. */
  worst: number
}

/** Means over the seeds. Both routings get the same arrivals, images and build sizes. */
function compare(name: string, { seeds, load, ...given }: Typical & { seeds: number }): Compared {
  const run = (shards: number, rate: number) => SEEDS.slice(0, seeds).map((seed) => simulate({ ...given, shards, rate, seed }))
  const rateFor = (buildMs: number) => (load * given.workers * given.slots) / buildMs
  // The build time that random routing has hardly depends on the rate: measured at a rate near the right one.
  const measured = simulate({ ...given, shards: 1, churnMs: 0, rate: rateFor(0.4 * given.warmMs + 0.6 * given.coldMs), seed: 0 })
  const rate = rateFor(measured.meanBuildS * 1000)
  const [routed, random] = [run(given.shards, rate), run(1, rate)]
  const result = { routed: mean(routed), random: mean(random), worst: Math.min(...routed.map(({ warmShare }) => warmShare)) }
  for (const [routing, at] of [
    ['shards', result.routed],
    ['random', result.random],
  ] as const)
    say(
      `${name.padEnd(42)} ${routing}: ${percent(at.warmShare)} warm, wait ${at.waitS.toFixed(3)} s (p99 ${at.waitP99S.toFixed(2)}), busy ${percent(at.busy)}, ` +
        `${Math.round(at.requestsPerWorkerHour)} requests per worker and hour, ${Math.round(at.handedBack)} handed back, ${Math.round(at.lost)} lost with a worker`,
    )
  return result
}

const mean = (outcomes: Outcome[]): Outcome => {
  const keys = Object.keys(outcomes[0]!) as (keyof Outcome)[]
  const of = (key: keyof Outcome) => outcomes.reduce((sum, outcome) => sum + outcome[key], 0) / outcomes.length
  return Object.fromEntries(keys.map((key) => [key, of(key)])) as unknown as Outcome
}
const percent = (value: number) => `${(value * 100).toFixed(1)} %`
const share = (value: number) => Math.round(value * 1000) / 1000
const figures = ({ routed, random }: Compared) => ({
  warm_share: share(routed.warmShare),
  random_warm_share: share(random.warmShare),
  wait_s: share(routed.waitS),
  random_wait_s: share(random.waitS),
})
