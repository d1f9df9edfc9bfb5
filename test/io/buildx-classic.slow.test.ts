import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DockerEngine } from '../../src/io/docker.ts'
import { openWorkshop, type Workshop } from './support/building.ts'
import { type ClassicEngine, startClassicEngine } from './support/classic-engine.ts'

describe.runIf(process.platform === 'linux' && process.getuid?.() === 0)(
  'a Docker engine without the containerd image store',
  () => {
    let engine: ClassicEngine
    let shop: Workshop
    const options = () => ({ containerdStore: false, env: { ...process.env, DOCKER_HOST: engine.host } })
    beforeAll(async () => {
      engine = await startClassicEngine()
      shop = await openWorkshop()
    })
    afterAll(async () => {
      await shop[Symbol.asyncDispose]()
      await engine[Symbol.asyncDispose]()
    })
    const SMALL = 'FROM scratch\nCOPY unique /\n'

    test('is recognised', async () => {
      expect(await new DockerEngine(options().env).info()).toMatchObject({ containerdStore: false })
    })

    test('builds, pushes every name, and writes a cache that another build takes from the image', async () => {
      const push = ['one', 'two'].map((tag) => `${engine.registry}/web:${tag}`)
      const request = await shop.request(SMALL, { push, cacheTo: `${engine.registry}/cache:main`, cacheFrom: [push[0]!] })
      const { error, digest, steps, events } = await shop.build(request, options())
      expect(error).toBeUndefined()
      expect(steps).toEqual({ total: 1, cached: 0 })
      expect(events.filter(({ type }) => type === 'warning')).toEqual([])
      const again = await shop.build(request, options())
      expect(again).toMatchObject({ digest, steps: { total: 1, cached: 1 } })
      for (const reference of [...push, `${engine.registry}/web@${digest}`]) {
        const { error } = await shop.build(
          await shop.request(`FROM ${reference}\nCOPY unique /two\n`, { push: [`${engine.registry}/child:1`] }),
          options(),
        )
        expect(error, reference).toBeUndefined()
      }
    })

    test('is told what it lacks for several platforms and attestations', async () => {
      const push = [`${engine.registry}/x:1`]
      const two = await shop.request(SMALL, { platforms: ['linux/amd64', 'linux/arm64'], push })
      expect((await shop.build(two, options())).error).toMatchObject({
        code: 'platforms_unsupported',
        exit: 4,
        next: expect.stringContaining('daemon.json'),
      })
      const attested = await shop.request(SMALL, { attest: true, push })
      expect((await shop.build(attested, options())).error).toMatchObject({ code: 'attestations_unsupported', exit: 4 })
    })

    test('its own words for a registry that is down are understood', async () => {
      const request = await shop.request(SMALL, { push: ['localhost:1/x:1'] })
      expect((await shop.build(request, options())).error).toMatchObject({
        kind: 'world',
        code: 'registry_unreachable',
        exit: 4,
        ids: { reference: 'localhost:1/x:1' },
      })
    })
  },
)
