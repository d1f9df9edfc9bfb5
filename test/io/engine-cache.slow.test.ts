import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { DockerEngine } from '../../src/io/docker.ts'
import { startEngine } from '../support/engine.ts'
import { writeFiles } from '../support/repo.ts'
import { openWorkshop } from './support/building.ts'

const isRoot = process.platform === 'linux' && process.getuid?.() === 0
const MIB = 1024 ** 2

describe.runIf(isRoot)('the build cache of an engine', { timeout: 300_000 }, () => {
  test('tells what it holds; what was left alone for longest goes first, as far as told; kept images leave nothing behind', async () => {
    await using own = await startEngine()
    const env = { ...process.env, DOCKER_HOST: own.host }
    const engine = new DockerEngine(env)
    expect(await engine.cacheBytes()).toBe(0)

    await using workshop = await openWorkshop()
    const build = async (name: string) => {
      const request = await workshop.request('FROM scratch\nCOPY large /\n', { keepAs: `bake-warm:${name}` })
      await writeFiles(request.contextDir, { large: randomBytes(8 * MIB) })
      const { error } = await workshop.build(request, { env })
      expect(error).toBeUndefined()
      expect(await engine.image(`bake-warm:${name}`)).toBeDefined()
      await engine.untag(`bake-warm:${name}`)
      expect(await engine.image(`bake-warm:${name}`)).toBeUndefined()
      return Date.now()
    }
    const firstEnded = await build('first')
    // Times of use are the engine's: the same machine's clock.
    await build('second')
    expect(await engine.cacheBytes()).toBeGreaterThan(40 * MIB)

    // A layer counts twice, packed and unpacked, and the context once.
    const { leftBytes, lostUseMs } = await engine.collectCache(28 * MIB)
    expect(leftBytes).toBeLessThanOrEqual(28 * MIB)
    expect(leftBytes).toBeGreaterThan(16 * MIB)
    expect(lostUseMs).toBeLessThanOrEqual(firstEnded)
    expect((await engine.collectCache(1024 * MIB)).lostUseMs).toBeUndefined()

    expect(await engine.collectCache(0)).toEqual({ leftBytes: 0, lostUseMs: expect.any(Number) })
    expect(await engine.cacheBytes()).toBe(0)
    await engine.untag('bake-warm:never-was')
  })
})
