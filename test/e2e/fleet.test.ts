import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { makeFleet } from '../support/fleet.ts'

/** docs/design.md §2: the same functions run on one machine and on AWS; only the adapters differ. */

test('an image on a fleet: asked for without an engine, built by a worker without a checkout, found again by everyone', async () => {
  await using fleet = await makeFleet()
  const sha = await fleet.repo.commit({ 'web/server.js': `// ${randomUUID()}\n` })
  await fleet.worker('one')
  const env = { DOCKER_HOST: 'unix:///nowhere.sock' }
  const built = await fleet.bake(['image', '--json'], { env })
  expect(built).toMatchObject({ code: 0 })
  const [image] = JSON.parse(built.stdout).images
  expect(image).toMatchObject({ status: 'built' })
  expect(await fleet.tagged(`sha-${sha}`)).toBe(image.digest)
  expect(await fleet.tagged('branch-main')).toBe(image.digest)

  const again = await fleet.bake(['image', '--json'], { env })
  expect(JSON.parse(again.stdout).images[0]).toMatchObject({ status: 'current', digest: image.digest })
  expect(await fleet.queue.depth()).toEqual({ visible: 0, inFlight: 0, delayed: 0, dead: 0 })
})

test('bake.yaml names a queue or a bucket that is not there: exit 4, and bake setup is the next step', async () => {
  await using fleet = await makeFleet()
  const yaml = await fleet.repo.git('show', 'HEAD:bake.yaml')
  await fleet.repo.commit({ 'bake.yaml': yaml.replace(/queue: [\w-]+/, 'queue: nobody') })
  const noQueue = await fleet.bake(['image', '--no-wait'])
  expect(noQueue).toMatchObject({ code: 4, stderr: expect.stringMatching(/nobody[\s\S]*bake setup/) })
  await fleet.repo.commit({ 'bake.yaml': yaml.replace(/bucket: [\w-]+/, 'bucket: nobody-has-it') })
  const noBucket = await fleet.bake(['image', '--no-wait'])
  expect(noBucket).toMatchObject({ code: 4, stderr: expect.stringMatching(/nobody-has-it[\s\S]*bake setup/) })
})

test('the state of a worker on AWS, beside the bake.yaml of a checkout, is no uncommitted change', async () => {
  await using fleet = await makeFleet()
  await using worker = fleet.start(['worker'])
  await worker.waitFor('stderr', /is ready/, 60_000)
  expect(await fleet.repo.git('status', '--porcelain')).toBe('')
})
