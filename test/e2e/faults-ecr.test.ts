import { CreateRepositoryCommand, ECRClient } from '@aws-sdk/client-ecr'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type EcrStandIn, startEcrStandIn } from '../support/ecr-registry.ts'
import { type Moto, startMoto } from '../support/moto.ts'
import { makeProject } from '../support/project.ts'

const files = (registry: string) => ({
  'bake.yaml': `project: shop\nregistry: ${registry}/shop\nimages:\n  web: { context: web }\n`,
  'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n',
  'web/server.js': `// ${Math.random()}\n`,
})

const LINGER = { BAKE_HOST_LINGER_MS: '20000' }

test('a token that ends in the middle of a push: the job is retried with a new one, and its image is built once', { timeout: 240_000 }, async () => {
  await using ecr = await startEcrStandIn()
  await using project = await makeProject(files(ecr.host), { ...LINGER, ...ecr.env })
  let ended = false
  ecr.watch = ({ method, path }) => {
    // The upload has begun with the old token.
    if (ended || method !== 'PUT' || !path.includes('/blobs/uploads/')) return
    ended = true
    ecr.expire()
  }
  const built = await project.bake(['image'])
  expect(built, built.stderr).toMatchObject({ code: 0 })
  expect(built.stderr).toMatch(/web {2}retrying in 2 s \(1 of 3 failed\): registry_denied/)
  expect(ended).toBe(true)
  const [record] = await project.builds()
  const { entries } = await project.claims(record!.commit)
  expect(entries.map(({ state }) => state)).toEqual(['claimed', 'failed', 'claimed', 'published'])
})

describe('repositories that ECR has to have first', () => {
  let moto: Moto
  let ecr: EcrStandIn
  beforeAll(async () => {
    moto = await startMoto()
    ecr = await startEcrStandIn({ moto: moto.endpoint })
  }, 180_000)
  afterAll(async () => {
    await ecr?.[Symbol.asyncDispose]()
    await moto?.[Symbol.asyncDispose]()
  })

  test('missing: the build says so and names bake setup; with it, bake retry goes on', { timeout: 240_000 }, async () => {
    await using project = await makeProject(files(ecr.host), { ...LINGER, ...ecr.env })
    const failed = await project.bake(['image'])
    expect(failed, failed.stderr).toMatchObject({ code: 4, stdout: '' })
    expect(failed.stderr).toMatch(/next: create that repository \(on ECR: bake setup\), then bake retry/)
    const client = new ECRClient({
      endpoint: moto.endpoint,
      region: 'us-east-1',
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    })
    await client.send(new CreateRepositoryCommand({ repositoryName: 'shop/web', imageTagMutability: 'IMMUTABLE' }))
    // Without bake-cache the cache is not written; that is a warning and no failure.
    const retried = await project.bake(['retry', 'latest'])
    client.destroy()
    expect(retried, retried.stderr).toMatchObject({ code: 0 })
    expect(retried.stderr).toMatch(/build cache not written/)
  })
})
