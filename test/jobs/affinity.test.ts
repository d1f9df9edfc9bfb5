import { describe, expect, test } from 'vitest'
import { preferredShards, shardOf } from '../../src/jobs/affinity.ts'

const names = (count: number, of = 'fleet') => Array.from({ length: count }, (_, n) => `${of}-worker-${n}`)
const all = (workers: string[], shards: number) =>
  new Map(workers.map((name) => [name, preferredShards(name, workers, shards)] as const))
const loadsOf = (preferred: Map<string, number[]>, shards: number) => {
  const loads = new Array<number>(shards).fill(0)
  for (const own of preferred.values()) for (const shard of own) loads[shard]!++
  return loads
}

describe('shardOf', () => {
  test('is one of the shards, the same one every time, in every version of bake', () => {
    const image = { project: 'shop', image: 'web' }
    expect([1, 2, 4, 8, 20, 64].map((shards) => shardOf(image, shards))).toEqual([0, 0, 3, 3, 3, 3])
  })

  test('tells projects apart', () => {
    const shards = names(20).map((project) => shardOf({ project, image: 'web' }, 16))
    expect(new Set(shards).size).toBeGreaterThan(8)
  })

  test('spreads images evenly', () => {
    const loads = new Array<number>(10).fill(0)
    for (let n = 0; n < 5_000; n++) loads[shardOf({ project: 'shop', image: `image-${n}` }, 10)]!++
    expect(Math.min(...loads)).toBeGreaterThan(430)
    expect(Math.max(...loads)).toBeLessThan(570)
  })

  test('one more queue takes its share of the images and moves no other', () => {
    const before = names(1_000).map((image) => shardOf({ project: 'shop', image }, 10))
    const after = names(1_000).map((image) => shardOf({ project: 'shop', image }, 11))
    const moved = after.filter((shard, n) => shard !== before[n])
    expect(moved.every((shard) => shard === 10)).toBe(true)
    expect(moved.length).toBeLessThan(140)
  })
})

describe('preferredShards', () => {
  const fleets = [
    [1, 1],
    [1, 2],
    [2, 2],
    [3, 6],
    [5, 4],
    [8, 16],
    [10, 20],
    [20, 10],
    [20, 16],
    [20, 20],
    [20, 40],
    [33, 64],
  ] as const

  test.each(fleets)('%i workers, %i shards: two each, none without a worker, evenly', (count, shards) => {
    for (const fleet of ['a', 'b', 'c']) {
      const preferred = all(names(count, fleet), shards)
      for (const own of preferred.values()) {
        expect(own.length).toBe(Math.min(2, shards))
        expect(new Set(own).size).toBe(own.length)
      }
      const loads = loadsOf(preferred, shards)
      expect(Math.min(...loads)).toBeGreaterThanOrEqual(1)
      expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(2)
    }
  })

  test('fewer workers than half the shards have more each, so that none is without a worker', () => {
    const preferred = all(names(3), 20)
    expect(Math.min(...loadsOf(preferred, 20))).toBe(1)
    expect([...preferred.values()].map((own) => own.length).sort()).toEqual([6, 7, 7])
  })

  test('a lone worker of very many shards has as many as it has connections for', () => {
    expect(preferredShards('alone', [], 64)).toHaveLength(16)
  })

  test('is the same in whatever order the workers are told, and counts the worker itself as live', () => {
    const workers = names(12)
    expect(preferredShards('fleet-worker-3', workers.toReversed(), 10)).toEqual(preferredShards('fleet-worker-3', workers, 10))
    const others = workers.filter((name) => name !== 'fleet-worker-3')
    expect(preferredShards('fleet-worker-3', others, 10)).toEqual(preferredShards('fleet-worker-3', workers, 10))
  })

  test.each([
    [20, 10],
    [20, 20],
    [20, 40],
    [8, 8],
  ] as const)('%i workers, %i shards: a death moves its own share and little more; a return moves it back', (count, shards) => {
    let moved = 0
    const workers = names(count)
    const before = all(workers, shards)
    const deaths = workers.slice(0, 6)
    for (const dead of deaths) {
      const after = all(
        workers.filter((name) => name !== dead),
        shards,
      )
      for (const [name, own] of after) moved += own.filter((shard) => !before.get(name)!.includes(shard)).length
    }
    // Two per death are the dead worker's own.
    expect(moved / deaths.length).toBeLessThanOrEqual(5)
    expect(all(workers, shards)).toEqual(before)
  })
})
