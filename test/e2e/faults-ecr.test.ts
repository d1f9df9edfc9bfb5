import { expect, test, vi } from 'vitest'
import { parseReference } from '../../src/reference.ts'
import { startEcrStandIn } from '../support/ecr-registry.ts'
import { startMoto } from '../support/moto.ts'
import { makeProject } from '../support/project.ts'

/** Builds with retries, beside whatever else the machine does. */
vi.setConfig({ testTimeout: 300_000 })

const files = (registry: string) => ({
  'bake.yaml': `project: shop\nregistry: ${registry}/shop\nimages:\n  web: { context: web }\n`,
  'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n',
  'web/server.js': `// ${Math.random()}\n`,
})

const LINGER = { BAKE_HOST_LINGER_MS: '20000' }

test('a token that ends in the middle of a push: the job is retried with a new one, and its image is built once', async () => {
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

test('repositories that nobody created: the build names bake setup, after which bake retry goes on and branches move in them', async () => {
  await using moto = await startMoto()
  await using ecr = await startEcrStandIn({ moto: moto.endpoint })
  await using project = await makeProject(files(ecr.host), { ...LINGER, ...ecr.env })
  const failed = await project.bake(['image'])
  expect(failed, failed.stderr).toMatchObject({ code: 4, stdout: '' })
  expect(failed.stderr).toMatch(/next: create that repository \(on ECR: bake setup\), then bake retry/)

  const setup = await project.bake(['setup', '--yes'])
  expect(setup, setup.stderr).toMatchObject({ code: 0 })
  expect(setup.stdout).toMatch(/create repository {2}shop\/web.*\n.*create repository {2}shop\/bake-cache/)
  const retried = await project.bake(['retry', 'latest'])
  expect(retried, retried.stderr).toMatchObject({ code: 0 })
  expect(retried.stderr).not.toMatch(/cache not written/)

  await project.repo.commit({ 'web/server.js': `// ${Math.random()}\n` })
  const next = await project.bake(['image'])
  expect(next, next.stderr).toMatchObject({ code: 0 })
  for (const [name, value] of Object.entries(ecr.env)) vi.stubEnv(name, value)
  try {
    const branch = await project.registry.head(parseReference(`${ecr.host}/shop/web:branch-main`))
    expect(next.stdout.trim()).toBe(`${ecr.host}/shop/web@${branch?.digest}`)
  } finally {
    vi.unstubAllEnvs()
  }
})
