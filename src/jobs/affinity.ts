import { sha256 } from '../names.ts'

/** Each worker has two shards of its own: one can be busy, and a shard's workers don't all die at once. */
const PREFERRED = 2
/** A worker of a fleet with fewer workers than half the shards has more, so that none is without; a shard costs it two long polls, thus two connections. */
const MAX_PREFERRED = 16

/**
 * The queue, 0 to `shards` − 1, for the jobs of one image: rendezvous hashing (Thaler and Ravishankar 1998), so that all askers agree without
 * talking, and growing from K to K + 1 queues moves one image of K + 1.
 */
export function shardOf({ project, image }: { project: string; image: string }, shards: number): number {
  let best = 0
  let highest = ''
  for (let shard = 0; shards > 1 && shard < shards; shard++) {
    const weight = sha256(`${project}/${image}\n${shard}`)
    if (weight > highest) [best, highest] = [shard, weight]
  }
  return best
}

/**
 * The shards that `worker` asks first, most preferred first: its best two by rendezvous hash, with bounded loads. All (worker, shard) pairs are
 * dealt in the order of their hashes, in rounds: no shard gets its second worker before each has one. So no shard is without a worker, their
 * workers differ in number by one (rarely two), and a worker's death moves little but its own share. A fleet of fewer workers than half
 * the shards has more than two each. Every worker works it out alone from the same names; while they disagree about who lives, stealing has
 * what falls between.
 * @param live names of the live workers in any order; `worker` counts as live.
 */
export function preferredShards(worker: string, live: readonly string[], shards: number): number[] {
  const workers = [...new Set([...live, worker])]
  const pairs = workers
    .flatMap((name) => Array.from({ length: shards }, (_, shard) => ({ name, shard, hash: sha256(`${name}\n${shard}`) })))
    .sort((a, b) => (a.hash < b.hash ? -1 : 1))
  const dealt = new Map<string, number[]>(workers.map((name) => [name, []]))
  const loads = new Array<number>(shards).fill(0)
  const deal = (each: number, load: number) => {
    for (const { name, shard } of pairs) {
      const own = dealt.get(name)!
      if (own.length >= each || loads[shard]! >= load || own.includes(shard)) continue
      own.push(shard)
      loads[shard]!++
    }
  }
  const each = Math.min(PREFERRED, shards)
  for (let load = 1; workers.some((name) => dealt.get(name)!.length < each); load++) deal(each, load)
  for (let more = each + 1; more <= MAX_PREFERRED && loads.includes(0); more++) deal(more, 1)
  return dealt.get(worker)!
}
