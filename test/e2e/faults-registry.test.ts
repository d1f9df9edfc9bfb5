import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, globSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { portHolder } from '../../src/io/host/port-holder.ts'
import { parseReference } from '../../src/reference.ts'
import { waitFor } from '../../src/wait.ts'
import { startFaultyRegistry } from '../support/faulty-registry.ts'
import { makeProject, type TestProject } from '../support/project.ts'
import { openRawQueue } from '../support/queue.ts'
import { startRegistry } from '../support/registry.ts'

const DIGEST = /@(sha256:[0-9a-f]{64})$/

/** No base image: nothing but the test's own bytes is pushed. */
const filesFor = (registry?: string) => ({
  'bake.yaml': `project: shop\n${registry ? `registry: ${registry}/shop\n` : ''}images:\n  web: { context: web }\n`,
  'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n',
  'web/server.js': `// ${Math.random()}\n`,
})

const env = { BAKE_HOST_LINGER_MS: '20000' }

const states = async (project: TestProject) => {
  const [record] = await project.builds()
  return (await project.claims(record!.commit)).entries.map((entry) =>
    entry.state === 'failed' ? `failed: ${entry.failure?.code ?? entry.cause}` : entry.state,
  )
}

const digestAt = async (project: TestProject, registry: string, tag: string) =>
  (await project.registry.head(parseReference(`${registry}/shop/web:${tag}`)))?.digest

/** What must hold after a build that met only passing faults. */
async function expectBuilt(project: TestProject, registry: string, stdout: string) {
  const digest = DIGEST.exec(stdout.trim())![1]
  const [record] = await project.builds()
  expect(record).toMatchObject({ status: 'built', digest })
  const claims = await project.claims(record!.commit)
  expect(claims.entries.filter((entry) => entry.state === 'published')).toHaveLength(1)
  expect(claims.published?.digest).toBe(digest)
  expect(await digestAt(project, registry, `sha-${record!.commit}`)).toBe(digest)
  expect(await digestAt(project, registry, 'branch-main')).toBe(digest)
  await using queue = await openRawQueue(project.dir)
  expect(await queue.depth()).toEqual({ visible: 0, inFlight: 0, delayed: 0, dead: 0 })
}

/** What must hold after three failures of the world. */
async function expectGivenUp(project: TestProject, code: string) {
  const [record] = await project.builds()
  expect(record).toMatchObject({ status: 'failed', failure: { kind: 'world', code, exit: 4 } })
  expect(await states(project)).toEqual(['claimed', 'claimed', 'claimed'].flatMap((state) => [state, `failed: ${code}`]))
  await using queue = await openRawQueue(project.dir)
  // The record comes first, the message goes then.
  await vi.waitFor(async () => expect(await queue.depth()).toEqual({ visible: 0, inFlight: 0, delayed: 0, dead: 1 }), 10_000)
  expect(await queue.dead()).toEqual([{ body: expect.stringContaining(record!.build), reason: code }])
}

describe('a registry that stays away: exit 4, dead letter, and bake retry once it is back', () => {
  test('it is down', async () => {
    const gone = await startRegistry()
    await gone.stop()
    await using project = await makeProject(filesFor(gone.host), env)
    const failed = await project.bake(['image'])
    expect(failed, failed.stderr).toMatchObject({ code: 4, stdout: '' })
    expect(failed.stderr).toMatch(/web {2}retrying in 2 s \(1 of 3 failed\): registry_unreachable: /)
    expect(failed.stderr).toMatch(/web {2}retrying in 8 s \(2 of 3 failed\)/)
    // Not told at all when the worker is quicker than the first look.
    expect(failed.stderr.match(/web {2}queued/g)?.length ?? 1).toBe(1)
    expect(failed.stderr).toMatch(/error: web: pushing .* failed: .*\nnext: see whether the registry runs .* then bake retry/)
    await expectGivenUp(project, 'registry_unreachable')
    const json = await project.bake(['build', 'latest', '--json'])
    expect(JSON.parse(json.stdout)).toMatchObject({ build: { failure: { code: 'registry_unreachable', exit: 4 } } })

    await using back = await startRegistry({ port: Number(gone.host.split(':')[1]) })
    const retried = await project.bake(['retry', 'latest'])
    expect(retried, retried.stderr).toMatchObject({ code: 0 })
    const [record] = await project.builds()
    expect(await digestAt(project, back.host, `sha-${record!.commit}`)).toBe(DIGEST.exec(retried.stdout.trim())![1])
    await gone[Symbol.asyncDispose]()
  })

  test('it wants a login; after docker login the running worker retries with it', async () => {
    await using registry = await startRegistry({ auth: true })
    await using project = await makeProject(filesFor(registry.host), env)
    const config = join(project.dir, '.docker')
    await mkdir(config)
    project.env.DOCKER_CONFIG = config
    const failed = await project.bake(['image'])
    expect(failed, failed.stderr).toMatchObject({ code: 4 })
    expect(failed.stderr).toMatch(/next: log in where the worker runs \(docker login\)/)
    await expectGivenUp(project, 'registry_denied')
    const auth = Buffer.from('bake:s3cret').toString('base64')
    await writeFile(join(config, 'config.json'), JSON.stringify({ auths: { [registry.host]: { auth } } }))
    const retried = await project.bake(['retry', 'latest'])
    expect(retried, retried.stderr).toMatchObject({ code: 0 })
  })

  test('it forbids (403) what is asked of it', async () => {
    await using registry = await startFaultyRegistry()
    registry.fault = ({ path }) => (path === '/v2/' ? undefined : 403)
    await using project = await makeProject(filesFor(registry.host), env)
    const failed = await project.bake(['image'])
    expect(failed, failed.stderr).toMatchObject({ code: 4 })
    await expectGivenUp(project, 'registry_denied')
  })

  test.runIf(process.getuid?.() === 0)('it has no space left', async () => {
    const root = await mkdtemp(join(tmpdir(), 'bake-full-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', root])
    try {
      await using registry = await startRegistry({ root })
      const large = { ...filesFor(registry.host), 'web/server.js': randomBytes(3 << 20) }
      await using project = await makeProject(large, env)
      const failed = await project.bake(['image'])
      expect(failed, failed.stderr).toMatchObject({ code: 4 })
      expect(failed.stderr).toMatch(/next: free space on the registry’s disk, then bake retry/)
      await expectGivenUp(project, 'registry_full')
      execFileSync('mount', ['-o', 'remount,size=64m', root])
      const retried = await project.bake(['retry', 'latest'])
      expect(retried, retried.stderr).toMatchObject({ code: 0 })
    } finally {
      execFileSync('umount', [root])
      await rm(root, { recursive: true })
    }
  })
})

test('a registry that is down when the asker looks whether a commit is tagged: exit 4 at once, nothing queued', async () => {
  await using registry = await startRegistry()
  await using project = await makeProject(filesFor(registry.host), env)
  expect((await project.bake(['image'])).code).toBe(0)
  await project.repo.commit({ 'README.md': 'outside of the context\n' })
  await registry.stop()
  const failed = await project.bake(['image', '--json'])
  expect(failed, failed.stderr).toMatchObject({ code: 4 })
  expect(JSON.parse(failed.stdout)).toMatchObject({
    error: { code: 'registry_unreachable', exit: 4, next: expect.stringContaining(registry.host), ids: { host: registry.host } },
  })
  expect(await project.builds()).toHaveLength(1)
  await using queue = await openRawQueue(project.dir)
  expect(await queue.depth()).toEqual({ visible: 0, inFlight: 0, delayed: 0, dead: 0 })
})

describe('a registry that fails for a while: the build succeeds, and its story tells of the retry', () => {
  test('503 to every push', async () => {
    await using registry = await startFaultyRegistry()
    await using project = await makeProject(filesFor(registry.host), env)
    registry.fault = ({ method }) => (method === 'POST' || method === 'PUT' ? 503 : undefined)
    await using asking = project.start(['image'])
    await asking.waitFor('stderr', /retrying in 2 s \(1 of 3 failed\): registry_error/)
    registry.fault = () => undefined
    const built = await asking.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(await states(project)).toEqual(['claimed', 'failed: registry_error', 'claimed', 'published'])
    await expectBuilt(project, registry.host, built.stdout)
    const log = await project.bake(['logs', 'latest'])
    expect(log, log.stderr).toMatchObject({ code: 0 })
  })

  test('connections reset in the middle of a layer', async () => {
    await using registry = await startFaultyRegistry()
    await using project = await makeProject({ ...filesFor(registry.host), 'web/server.js': randomBytes(1 << 20) }, env)
    registry.fault = ({ method, path }) => (['PUT', 'PATCH'].includes(method) && path.includes('/uploads/') ? 'reset' : undefined)
    await using asking = project.start(['image'])
    await asking.waitFor('stderr', /retrying in 2 s \(1 of 3 failed\): registry_unreachable/, 60_000)
    registry.fault = () => undefined
    const built = await asking.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(registry.faults).toBeGreaterThan(0)
    await expectBuilt(project, registry.host, built.stdout)
  })

  test('500 to the commit tag only: what is published is not built again', async () => {
    await using registry = await startFaultyRegistry()
    await using project = await makeProject(filesFor(registry.host), env)
    registry.fault = ({ method, path }) =>
      method === 'PUT' && path.includes('/manifests/sha-') && registry.faults < 4 ? 500 : undefined
    const built = await project.bake(['image'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(registry.faults).toBe(4)
    expect(await states(project)).toEqual(['claimed', 'published'])
    await expectBuilt(project, registry.host, built.stdout)
  })

  test('the registry of one machine, killed in the middle of a push: the host starts it again', {
    timeout: 240_000,
  }, async () => {
    await using project = await makeProject({ ...filesFor(), 'web/server.js': randomBytes(96 << 20) }, env)
    await using asking = project.start(['image'])
    const uploads = join(project.dir, '.bake/registry/docker/registry/v2/repositories/shop/web/_uploads')
    await waitFor(() => (existsSync(uploads) && globSync(`${uploads}/*/data`).length > 0) || undefined, {
      what: 'the push',
      deadlineMs: 120_000,
      intervalMs: 2,
    })
    const { registry } = (await project.host())!
    const holder = await portHolder(Number(registry.split(':')[1]))
    expect(holder?.command).toContain('registry')
    process.kill(holder!.pid, 'SIGKILL')
    const built = await asking.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(built.stderr).toMatch(/the registry ended \(SIGKILL\); starting it again/)
    await expectBuilt(project, registry, built.stdout)
  })
})
