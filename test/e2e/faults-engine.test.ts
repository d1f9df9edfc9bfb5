import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { startClassicEngine } from '../io/support/classic-engine.ts'
import { startEngineProxy } from '../io/support/engine-proxy.ts'
import { startGate } from '../support/gate.ts'
import { makeProject, type TestProject, WEB_FILES } from '../support/project.ts'
import { openRawQueue } from '../support/queue.ts'

const isRoot = process.platform === 'linux' && process.getuid?.() === 0
const env = { BAKE_HOST_LINGER_MS: '20000' }
const SCRATCH = { ...WEB_FILES, 'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n' }

const states = async (project: TestProject) => {
  const [record] = await project.builds()
  return (await project.claims(record!.commit)).entries.map((entry) =>
    entry.state === 'failed' ? `failed: ${entry.failure?.code ?? entry.cause}` : entry.state,
  )
}

async function expectNothingQueued(project: TestProject) {
  expect(await project.builds()).toEqual([])
  await using queue = await openRawQueue(project.dir)
  expect(await queue.depth()).toEqual({ visible: 0, inFlight: 0, delayed: 0, dead: 0 })
}

/** Only a fake buildx that says `version` is found first. */
async function withBuildx(project: TestProject, version: string): Promise<string> {
  const plugins = join(project.dir, '.docker/cli-plugins')
  await mkdir(plugins, { recursive: true })
  await writeFile(join(plugins, 'docker-buildx'), `#!/bin/sh\necho github.com/docker/buildx ${version} 0\n`)
  await chmod(join(plugins, 'docker-buildx'), 0o755)
  return join(project.dir, '.docker')
}

describe('what is missing before anything is queued: exit 4 with the fix, nothing queued', () => {
  test.each([
    ['with a base that only the engine has', WEB_FILES],
    ['without a base', SCRATCH],
  ])('the engine does not run, %s', async (_, files) => {
    await using project = await makeProject(files, { ...env, DOCKER_HOST: 'unix:///nowhere/docker.sock' })
    const refused = await project.bake(['image', '--json'])
    expect(refused, refused.stderr).toMatchObject({ code: 4 })
    expect(JSON.parse(refused.stdout)).toMatchObject({
      error: { code: 'engine_unreachable', exit: 4, next: expect.stringMatching(/start it .*bake doctor checks it/) },
    })
    await expectNothingQueued(project)
  })

  test('buildx is too old', async () => {
    await using project = await makeProject(SCRATCH, env)
    project.env.DOCKER_CONFIG = await withBuildx(project, 'v0.12.1')
    const refused = await project.bake(['image'])
    expect(refused, refused.stderr).toMatchObject({ code: 4, stdout: '' })
    expect(refused.stderr).toMatch(/error: docker-buildx 0\.12\.1 \(.*\) is too old: 0\.13 or later is needed\nnext: bin\/setup/)
    await expectNothingQueued(project)
  })

  test.runIf(isRoot)('buildx is not installed', async () => {
    await using project = await makeProject(SCRATCH, env)
    const hide = 'mount -t tmpfs tmpfs /usr/libexec/docker/cli-plugins && exec "$@"'
    const refused = await project.bake(['image'], { prefix: ['unshare', '--mount', 'sh', '-c', hide, 'sh'] })
    expect(refused, refused.stderr).toMatchObject({ code: 4, stdout: '' })
    expect(refused.stderr).toMatch(/error: the docker-buildx plugin is not installed\nnext: bin\/setup/)
    await expectNothingQueued(project)
  })

  test('a tag needs neither engine nor buildx', async () => {
    await using project = await makeProject(SCRATCH, env)
    const built = await project.bake(['image'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
    const commit = await project.repo.commit({ 'README.md': 'changed outside the context\n' })
    const tagged = await project.bake(['image'], { env: { DOCKER_HOST: 'unix:///nowhere/docker.sock' } })
    expect(tagged, tagged.stderr).toMatchObject({ code: 0, stdout: built.stdout })
    expect(await project.tagged(`sha-${commit}`)).toBeDefined()
  })
})

describe('what a worker lacks', () => {
  test('its buildx is too old: trying again would not help, so it fails at once', async () => {
    await using project = await makeProject(SCRATCH, { ...env, BAKE_DEFAULT_WORKER: '0' })
    await using worker = project.start(['worker'], { env: { DOCKER_CONFIG: await withBuildx(project, 'v0.12.1') } })
    await worker.waitFor('stderr', /is ready/)
    const failed = await project.bake(['image'])
    expect(failed, failed.stderr).toMatchObject({ code: 4 })
    expect(failed.stderr).not.toMatch(/retrying/)
    expect(await states(project)).toEqual(['claimed', 'failed: buildx_too_old'])
    worker.kill('SIGTERM')
    expect((await worker.wait()).code).toBe(0)
  })

  test('the engine goes away in the middle of a build and comes back: the build succeeds', async () => {
    await using gate = await startGate()
    await using proxy = await startEngineProxy()
    await using project = await makeProject(
      { ...SCRATCH, 'web/Dockerfile': gate.dockerfile },
      { ...env, DOCKER_HOST: proxy.host },
    )
    await using asking = project.start(['image'])
    await gate.entered()
    proxy.cut()
    await asking.waitFor('stderr', /retrying in 2 s \(1 of 3 failed\): engine_gone/)
    gate.open()
    const built = await asking.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(await states(project)).toEqual(['claimed', 'failed: engine_gone', 'claimed', 'published'])
  })

  test('the engine goes away for good: exit 4, dead letter', async () => {
    await using gate = await startGate()
    const proxy = await startEngineProxy()
    await using project = await makeProject(
      { ...SCRATCH, 'web/Dockerfile': gate.dockerfile },
      { ...env, DOCKER_HOST: proxy.host },
    )
    await using asking = project.start(['image'])
    await gate.entered()
    await proxy[Symbol.asyncDispose]()
    const failed = await asking.wait()
    expect(failed, failed.stderr).toMatchObject({ code: 4 })
    expect(failed.stderr).toMatch(/next: start it \(sudo systemctl start docker/)
    expect(await states(project)).toEqual([
      'claimed',
      'failed: engine_gone',
      'claimed',
      'failed: engine_unreachable',
      'claimed',
      'failed: engine_unreachable',
    ])
    await using queue = await openRawQueue(project.dir)
    expect(await queue.depth()).toMatchObject({ visible: 0, inFlight: 0, dead: 1 })
  })
})

describe.runIf(isRoot)('an engine of its own', () => {
  test('its disk is full: the world’s failure', async () => {
    await using engine = await startClassicEngine({ dataMiB: 48 })
    const large = { ...SCRATCH, 'web/server.js': randomBytes(64 << 20) }
    await using project = await makeProject(large, { ...env, DOCKER_HOST: engine.host, BAKE_HOST_LINGER_MS: '1500' })
    const failed = await project.bake(['image'], { prefix: engine.inside })
    expect(failed, failed.stderr).toMatchObject({ code: 4 })
    expect(failed.stderr).toMatch(/next: free space \(docker system df; docker buildx prune\)/)
    expect(await states(project)).toEqual(['claimed', 'claimed', 'claimed'].flatMap((state) => [state, 'failed: disk_full']))
  })

  test('without the containerd store: builds, pushes, tags; a changed line takes the rest from the inline cache of another engine', async () => {
    const files = {
      ...WEB_FILES,
      'web/Dockerfile': 'FROM scratch\nCOPY package.json /\nCOPY server.js /\n',
      'web/package.json': '{}\n',
    }
    await using project = await makeProject(files, { ...env, BAKE_HOST_LINGER_MS: '1500' })
    const link = async (tag: string) => {
      const tags = join(project.dir, '.bake/registry/docker/registry/v2/repositories/shop/web/_manifests/tags')
      return readFile(join(tags, tag, 'current/link'), 'utf8')
    }
    const build = async () => {
      // A new engine each time: what is cached came through the registry.
      await using engine = await startClassicEngine()
      const built = await project.bake(['image', '--json'], { prefix: engine.inside, env: { DOCKER_HOST: engine.host } })
      expect(built, built.stderr).toMatchObject({ code: 0 })
      expect(built.stderr).not.toMatch(/warning/)
      const [image] = (JSON.parse(built.stdout) as { images: { digest: string; steps: object }[] }).images
      const [record] = await project.builds()
      expect(record).toMatchObject({ status: 'built', digest: image!.digest })
      expect(await link(`sha-${record!.commit}`)).toBe(image!.digest)
      expect(await link('branch-main')).toBe(image!.digest)
      expect((await project.claims(record!.commit)).published?.digest).toBe(image!.digest)
      return image!
    }
    expect((await build()).steps).toEqual({ total: 2, cached: 0 })
    await project.repo.commit({ 'web/server.js': 'console.log(2)\n' })
    expect((await build()).steps).toEqual({ total: 2, cached: 1 })
  })
})
