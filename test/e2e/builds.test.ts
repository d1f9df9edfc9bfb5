import { join } from 'node:path'
import { expect, test } from 'vitest'
import { writeBuilds } from '../support/many-builds.ts'
import { makeProject } from '../support/project.ts'

test('bake builds over a ledger of 100,000 builds: newest first, filtered, found by a short id', async () => {
  await using project = await makeProject()
  const all = writeBuilds(join(project.dir, '.bake/ledger'), 100_000)
  const ask = async (...args: string[]) => {
    const result = await project.bake(['builds', '--json', ...args])
    expect(result, result.stderr).toMatchObject({ code: 0 })
    return (JSON.parse(result.stdout) as { builds: { build: string }[] }).builds.map(({ build }) => build)
  }
  const ids = (from: typeof all, limit = 20) => from.slice(0, limit).map(({ build }) => build)
  expect(await ask()).toEqual(ids(all))
  expect(await ask('--limit', '3', '--image', 'jobs')).toEqual(
    ids(
      all.filter(({ image }) => image === 'jobs'),
      3,
    ),
  )
  expect(await ask('--status', 'failed')).toEqual(ids(all.filter(({ status }) => status === 'failed')))
  const oldest = all.at(-1)!
  const started = performance.now()
  expect(await ask('--sha', oldest.commit)).toEqual([oldest.build])
  // Every record is read for it: seconds, not minutes.
  expect(performance.now() - started).toBeLessThan(30_000)
  const table = (await project.bake(['builds', '--limit', '2'])).stdout.trim().split('\n')
  expect(table).toHaveLength(3)
  expect(table[1]).toMatch(new RegExp(`^${all[0]!.build} +web +0{10} +main +built +1 min 00 s +1 min ago$`))
  const one = await project.bake(['build', oldest.build.slice(0, 11), '--json'])
  expect(JSON.parse(one.stdout)).toMatchObject({ build: { build: oldest.build } })
}, 180_000)
