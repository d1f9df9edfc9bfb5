import { expect, onTestFinished, test } from 'vitest'
import type { Disk } from '../../src/io/disk.ts'
import { Room, type RoomOptions } from '../../src/jobs/room.ts'
import { Slots } from '../../src/jobs/slots.ts'

const GIB = 1024 ** 3
const disk = (freeGib: number, more: Partial<Disk> = {}): Disk => ({
  freeBytes: freeGib * GIB,
  totalBytes: 100 * GIB,
  freeInodes: 900_000,
  totalInodes: 1_000_000,
  ...more,
})

/** A machine of numbers: a disk that the engine's cache is a part of. What is collected is free afterwards. */
function machine(start: { disk: Disk; cacheGib?: number }, options: Partial<RoomOptions> = {}) {
  const slots = new Slots(2)
  const now = { disk: start.disk, cacheBytes: (start.cacheGib ?? 50) * GIB }
  const told: string[] = []
  const pruned: { keepGib: number; busy: number; free: number }[] = []
  const forgotten: number[] = []
  const room = new Room({
    slots,
    engine: {
      info: async () => ({
        version: '26',
        containerdStore: true,
        os: 'linux',
        architecture: 'x86_64',
        dataRoot: '/engine',
        id: 'e',
      }),
      cacheBytes: async () => now.cacheBytes,
      collectCache: async (keep) => {
        pruned.push({ keepGib: Math.round((keep / GIB) * 10) / 10, busy: slots.busy, free: slots.free })
        now.disk = { ...now.disk, freeBytes: now.disk.freeBytes + now.cacheBytes - keep }
        now.cacheBytes = keep
        return { leftBytes: keep, lostUseMs: 1234 }
      },
    },
    disk: async (path) => (path === '/engine' ? now.disk : disk(50)),
    stateDir: '/state',
    limits: {},
    fleet: true,
    onLost: async (_, lostUseMs) => void forgotten.push(lostUseMs),
    onNote: (text) => told.push(text),
    onProblem: (text) => told.push(text),
    tickMs: 3_600_000,
    ...options,
  })
  onTestFinished(() => room[Symbol.dispose]())
  const later = () => new Promise((resolve) => setTimeout(resolve, 600))
  return { slots, now, told, pruned, forgotten, room, later }
}

test('a cache larger than its limit is collected between builds, and no build begins meanwhile', async () => {
  const { slots, room, pruned, forgotten, told } = machine({ disk: disk(40) }, { limits: { cacheBytes: 20 * GIB } })
  const slot = slots.tryTake()
  await room.tick()
  expect(pruned).toEqual([])
  slot?.release()
  await room.tick()
  expect(pruned).toEqual([{ keepGib: 18, busy: 0, free: 0 }])
  expect(forgotten).toEqual([1234])
  expect(told).toEqual(['build cache: 32.0 GB collected, 18.0 GB left'])
  expect(slots.free).toBe(2)
})

test('what bake.yaml wants free is made free; without limits a fleet keeps 15 % of the engine’s disk free, and a user’s machine is left alone', async () => {
  const told = machine({ disk: disk(8) }, { limits: { freeBytes: 10 * GIB } })
  await told.room.tick()
  expect(told.pruned.map(({ keepGib }) => keepGib)).toEqual([47])
  const fleet = machine({ disk: disk(10) })
  await fleet.room.tick()
  expect(fleet.pruned.map(({ keepGib }) => keepGib)).toEqual([43.5])
  const own = machine({ disk: disk(3) }, { fleet: false })
  await own.room.tick()
  expect(own.pruned).toEqual([])
})

test('few inodes: half of the cache is given up', async () => {
  const { room, pruned } = machine({ disk: disk(50, { freeInodes: 30_000 }) })
  await room.tick()
  expect(pruned.map(({ keepGib }) => keepGib)).toEqual([25])
})

test.each([
  ['bytes', disk(0.5), 'the disk of /engine has 512 MB free of 1.0 GB that a build needs'],
  ['inodes', disk(50, { freeInodes: 5_000 }), 'the disk of /engine has 5000 inodes free of 20000 that a build needs'],
])(
  'a fleet’s worker that is short of %s gives the job to others, takes no more, and comes back when there is room',
  async (_, short, why) => {
    const { slots, now, told, room, pruned, later } = machine({ disk: short, cacheGib: 0 })
    expect(await room.forBuild()).toBe('later')
    expect(slots.tryTake()).toBeUndefined()
    expect(told).toEqual([`${why}: taking no job until there is room`])
    await room.tick()
    expect(pruned).toEqual([])
    expect(slots.free).toBe(0)
    now.disk = disk(50)
    await later()
    await room.tick()
    expect(slots.free).toBe(2)
    expect(told.at(-1)).toBe('there is room again: taking jobs')
    expect(await room.forBuild()).toBe('room')
  },
)

test('a shortage that a collection ends costs no more than that', async () => {
  const { slots, room, pruned, later, told } = machine({ disk: disk(0.5) })
  expect(await room.forBuild()).toBe('later')
  await later()
  await room.tick()
  expect(pruned).toHaveLength(1)
  await later()
  await room.tick()
  expect(slots.free).toBe(2)
  expect(told.at(-1)).toBe('there is room again: taking jobs')
})

test('on a machine by itself the job is told why it can’t be built', async () => {
  const { slots, room } = machine({ disk: disk(0.5) }, { fleet: false })
  await expect(room.forBuild()).rejects.toMatchObject({
    code: 'disk_short',
    exit: 4,
    next: expect.stringMatching(/free some space/),
  })
  expect(slots.free).toBe(2)
})

test('a small disk is no shortage by itself', async () => {
  const { room } = machine({ disk: disk(0.4, { totalBytes: 5 * GIB }) })
  expect(await room.forBuild()).toBe('room')
})
