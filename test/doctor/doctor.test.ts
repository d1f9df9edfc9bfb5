import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openWorld } from '../../src/doctor/world.ts'
import { CHECKS, type CheckResult, type DoctorWorld, examine, exitOf } from '../../src/doctor.ts'
import { engineEnvironment } from '../../src/io/engine-environment.ts'
import { startRegistry } from '../support/registry.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-doctor-'))
})
afterEach(() => rm(dir, { recursive: true }))

const git = (...args: string[]) =>
  execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], { cwd: dir, stdio: 'pipe' })
const config = (text: string) => writeFile(join(dir, 'bake.yaml'), text)

async function diagnose(env: NodeJS.ProcessEnv = {}, change: (world: DoctorWorld) => Partial<DoctorWorld> = () => ({})) {
  const world = openWorld(dir, { ...process.env, ...env })
  const results = await examine({ ...world, ...change(world) }, new AbortController().signal)
  return {
    results,
    exit: exitOf(results),
    of: Object.fromEntries(results.map((result) => [result.id, result])) as Record<string, CheckResult>,
  }
}

describe('bake doctor', () => {
  it('finds nothing failed on a machine that is set up, and gives every problem a fix', async () => {
    git('init', '-q')
    await config('project: p\nimages: { a: . }\n')
    git('add', '.')
    git('commit', '-qm', 'first')
    const { results, exit } = await diagnose()
    expect(results.filter(({ status }) => status === 'failed')).toEqual([])
    expect(exit).toBe(0)
    expect(results.map(({ id }) => id)).toEqual(CHECKS.map(({ id }) => id))
    expect(results.filter(({ status, fix }) => status === 'warning' && !fix)).toEqual([])
    expect(results.find(({ id }) => id === 'config')).toMatchObject({
      status: 'ok',
      detail: `${join(dir, 'bake.yaml')}, 1 image`,
    })
  })

  it('leaves nothing behind', async () => {
    await mkdir(join(dir, '.bake'))
    await diagnose()
    expect(execFileSync('find', [dir], { encoding: 'utf8' }).trim().split('\n').sort()).toEqual([dir, join(dir, '.bake')])
  })

  it('only warns when there is no bake.yaml, no repository, no commit', async () => {
    const before = await diagnose()
    expect(before.of.config).toMatchObject({ status: 'warning', fix: 'bake init' })
    expect(before.of.git_repository).toMatchObject({ status: 'warning', detail: 'this is not a git repository' })
    expect(before.exit).toBe(0)
    git('init', '-q')
    expect((await diagnose()).of.git_repository).toMatchObject({ status: 'warning', detail: 'it has no commit yet' })
  })

  it('ends with 2 when only bake.yaml is invalid', async () => {
    git('init', '-q')
    await config('project: p\nimages: { a: .. }\nx: y\n')
    const { of, exit } = await diagnose()
    expect(of.config!.detail.split('\n')).toHaveLength(2)
    expect(of.registry!.status).toBe('skipped')
    expect(exit).toBe(2)
    expect((await diagnose({ DOCKER_HOST: 'unix:///nowhere.sock' })).exit).toBe(4)
  })

  it('refuses a bare repository, and a bake.yaml without any', async () => {
    await config('project: p\nimages: { a: . }\n')
    expect((await diagnose()).of.git_repository).toMatchObject({ status: 'failed', fix: expect.stringContaining('git init') })
    git('init', '-q', '--bare', '.')
    expect((await diagnose()).of.git_repository).toMatchObject({ status: 'failed', detail: expect.stringContaining('bare') })
  })

  it('tells an engine that does not answer once, and skips what depends on it', async () => {
    const { of, exit } = await diagnose({ DOCKER_HOST: 'unix:///nowhere.sock' })
    expect(of.engine).toMatchObject({
      status: 'failed',
      detail: expect.stringContaining('/nowhere.sock'),
      fix: expect.any(String),
    })
    expect([of.image_store, of.step_logs, of.engine_disk].map((result) => result!.status)).toEqual([
      'skipped',
      'skipped',
      'skipped',
    ])
    expect(exit).toBe(4)
  })

  it('finds no programs in an empty PATH', async () => {
    const { of } = await diagnose({ PATH: dir, HOME: dir })
    expect(of.git).toMatchObject({ status: 'failed', detail: 'not installed' })
    expect(of.git_repository).toMatchObject({ status: 'skipped' })
    expect(of.setpriv).toMatchObject({ status: 'warning' })
    expect(of.registry_program!.detail).toContain('registry:2')
  })

  it('reaches the configured registry', async () => {
    await using registry = await startRegistry()
    await config(`project: p\nregistry: ${registry.host}/x\nimages: { a: . }\n`)
    const { of } = await diagnose()
    expect(of.registry).toMatchObject({ status: 'ok', detail: `${registry.host}/x answers` })
    expect(of.registry_program!.status).toBe('skipped')
  })

  it('fails on a registry that does not answer', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    await new Promise((resolve) => server.close(resolve))
    await config(`project: p\nregistry: 127.0.0.1:${port}/x\nimages: { a: . }\n`)
    const { of, exit } = await diagnose()
    expect(of.registry).toMatchObject({ status: 'failed', fix: expect.any(String) })
    expect(exit).toBe(4)
  })

  it('tells secrets and agents that are not there, never a value', async () => {
    await config('project: p\nimages: { a: { secrets: [npm-token, pip, empty], ssh: [default] } }\n')
    await writeFile(join(dir, 'pip'), 'hush-file')
    await writeFile(join(dir, 'empty'), '')
    const { of, results } = await diagnose({ BAKE_SECRET_NPM_TOKEN: 'hush-variable', BAKE_SECRETS_DIR: dir, SSH_AUTH_SOCK: '' })
    expect(of.secrets).toMatchObject({ status: 'warning', detail: 'empty is not set here, no ssh agent here' })
    expect(JSON.stringify(results)).not.toContain('hush')
  })

  it('warns of a clock that was set back since the last build', async () => {
    await mkdir(join(dir, '.bake'))
    await writeFile(join(dir, '.bake/x'), '')
    const { of } = await diagnose({}, () => ({ now: () => Date.now() - 7_200_000 }))
    expect(of.clock).toMatchObject({ status: 'warning', detail: expect.stringContaining('set back') })
  })

  it('fails on a state directory that can not be', async () => {
    await writeFile(join(dir, 'file'), '')
    expect((await diagnose({ BAKE_STATE_DIR: join(dir, 'file/state') })).of.state_dir!.status).toBe('failed')
  })
})

/** What this machine's engine is not: the findings of the engine are changed, the checks are real. */
describe('bake doctor elsewhere', () => {
  const engineWith = (info: object) => (world: DoctorWorld) => ({
    engine: {
      ...world.engine,
      ping: async () => {},
      image: async () => undefined,
      info: async () => ({ ...(await world.engine.info()), ...info }),
    } as DoctorWorld['engine'],
  })

  it('says what is lost without the containerd image store, and how to switch', async () => {
    const { of, exit } = await diagnose({}, engineWith({ containerdStore: false }))
    expect(of.image_store).toMatchObject({
      status: 'warning',
      detail: expect.stringContaining('inline cache only'),
      fix: expect.stringContaining('containerd-snapshotter'),
    })
    expect(exit).toBe(0)
    expect((await diagnose({}, engineWith({ containerdStore: false, version: '20.10.24' }))).of.image_store!.fix).toContain(
      'upgrade',
    )
  })

  it.each([
    ['node', { nodeVersion: '20.20.2' }],
    ['git', { gitVersion: async () => '2.28.1' }],
    ['buildx', { buildx: async () => ({ path: '/x', version: '0.12.1' }) }],
    ['buildx', { buildx: async () => undefined }],
    ['engine_disk', { disk: async () => ({ freeBytes: 1e9, totalBytes: 1e11, freeInodes: 1e6, inodes: 1e7 }) }],
    ['state_disk', { disk: async () => ({ freeBytes: 1e11, totalBytes: 1e11, freeInodes: 10, inodes: 1e7 }) }],
    ['clock', { now: () => 0 }],
  ])('fails on %s, with a fix', async (id, change) => {
    const { of, exit } = await diagnose({}, () => change as Partial<DoctorWorld>)
    expect(of[id]).toMatchObject({ status: 'failed', fix: expect.any(String) })
    expect(exit).toBe(4)
  })

  it('does not count inodes where a file system has no fixed number', async () => {
    const disk = async () => ({ freeBytes: 1e12, totalBytes: 1e12, freeInodes: 0, inodes: 0 })
    expect((await diagnose({}, () => ({ disk }))).of.state_disk!.status).toBe('ok')
  })

  it('warns of a foreign platform without an emulator', async () => {
    await config('project: p\nimages: { a: { platforms: [linux/amd64, linux/arm64, linux/arm/v6] } }\n')
    const at = async (emulated: string[]) =>
      (await diagnose({}, () => ({ platform: 'linux/amd64', emulated: async () => emulated }))).of.emulation
    expect(await at(['linux/arm/v7'])).toMatchObject({ status: 'warning', detail: expect.stringMatching(/^linux\/arm64: /) })
    expect(await at(['linux/arm/v7', 'linux/arm64'])).toMatchObject({ status: 'ok' })
  })

  it('tells limited step logs from unknown ones', async () => {
    const at = async (environment: Record<string, string> | undefined) =>
      (await diagnose({}, () => ({ engineEnvironment: async () => environment }))).of.step_logs
    expect(await at({ BUILDKIT_STEP_LOG_MAX_SIZE: '-1', BUILDKIT_STEP_LOG_MAX_SPEED: '-1' })).toMatchObject({ status: 'ok' })
    expect(await at({ BUILDKIT_STEP_LOG_MAX_SIZE: '-1' })).toMatchObject({
      status: 'warning',
      detail: expect.stringMatching(/^limited/),
    })
    expect(await at(undefined)).toMatchObject({ status: 'warning', detail: expect.stringMatching(/^unknown/) })
  })

  it('reads the environment of the engine at another socket', async () => {
    const program = join(dir, 'dockerd')
    await copyFile('/bin/sh', program)
    await chmod(program, 0o755)
    const host = `unix://${join(dir, 'other.sock')}`
    const child = spawn(program, ['-c', 'echo up; read x', '-H', host], {
      env: { BUILDKIT_STEP_LOG_MAX_SIZE: '7' },
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    await once(child.stdout, 'data')
    expect(await engineEnvironment(host)).toMatchObject({ BUILDKIT_STEP_LOG_MAX_SIZE: '7' })
    child.stdin.end('\n')
    await once(child, 'exit')
    expect(await engineEnvironment(host)).toBeUndefined()
    expect(await engineEnvironment('tcp://10.0.0.1:2375')).toBeUndefined()
  })
})
