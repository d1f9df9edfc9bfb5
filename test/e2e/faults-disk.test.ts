import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { readBuild } from '../../src/jobs/records.ts'
import { waitFor } from '../../src/wait.ts'
import { startEngine } from '../support/engine.ts'
import { makeFleet, type TestFleet } from '../support/fleet.ts'
import { startGate } from '../support/gate.ts'
import { makeProject, WEB_FILES } from '../support/project.ts'

const run = promisify(execFile)
const isRoot = process.platform === 'linux' && process.getuid?.() === 0
const LONG = { timeout: 300_000 }

/** A disk of 64 MiB at a directory of its own. */
async function smallDisk(): Promise<{ path: string; fill: () => Promise<void>; empty: () => Promise<void> } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'bake-disk-'))
  await run('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', path])
  const filler = join(path, 'filler')
  return {
    path,
    async fill() {
      const { bavail, bsize } = await statfs(path)
      await writeFile(filler, Buffer.alloc(bavail * bsize - 1_000_000))
    },
    empty: () => rm(filler, { force: true }),
    async [Symbol.asyncDispose]() {
      await run('umount', [path])
      await rm(path, { recursive: true })
    },
  }
}

async function ask(fleet: TestFleet): Promise<string> {
  const asked = await fleet.bake(['image', '--no-wait'])
  expect(asked, asked.stderr).toMatchObject({ code: 0 })
  return asked.stdout.trim()
}

const builtBy = (fleet: TestFleet, build: string) =>
  waitFor(
    async () => {
      const record = await readBuild(fleet.ledger, build)
      return record?.status === 'built' ? record.worker : undefined
    },
    { what: `build ${build}`, deadlineMs: 90_000, intervalMs: 250 },
  )

const OFF = { BAKE_WARM_SECONDS: '0', BAKE_FOLLOW_SECONDS: '0' }

describe.runIf(isRoot)('a worker out of disk', () => {
  test(
    'of its state directory: takes no job and claims none; another builds it; with space again it builds the next',
    LONG,
    async () => {
      await using disk = await smallDisk()
      await using fleet = await makeFleet()
      const state = join(disk.path, 'state')
      await mkdir(state)
      const small = await fleet.worker('small', { env: { ...OFF, BAKE_STATE_DIR: state } })
      await disk.fill()
      const first = await ask(fleet)
      await small.waitFor(
        'stderr',
        /the disk of .* has \d+ MB free of \d+ MB that a build needs: taking no job until there is room/,
        60_000,
      )
      expect(await readBuild(fleet.ledger, first)).not.toHaveProperty('claim')

      const big = await fleet.worker('big', { env: OFF })
      expect(await builtBy(fleet, first)).toBe('big')
      big.kill('SIGTERM')
      await big.wait()

      await fleet.repo.commit({ 'web/server.js': 'console.log(2)\n' })
      const second = await ask(fleet)
      await disk.empty()
      await small.waitFor('stderr', /there is room again: taking jobs/, 60_000)
      expect(await builtBy(fleet, second)).toBe('small')
      small.kill('SIGTERM')
      expect(await small.wait()).toMatchObject({ code: 0 })
    },
  )

  test('of its engine’s: the same, found before a claim', LONG, async () => {
    await using disk = await smallDisk()
    await using fleet = await makeFleet()
    await using engine = await startEngine({ reach: [fleet.registry.host], dataRoot: disk.path })
    await disk.fill()
    const small = await fleet.worker('small', { env: { ...OFF, DOCKER_HOST: engine.host } })
    const build = await ask(fleet)
    await small.waitFor('stderr', /taking no job until there is room/, 60_000)
    await disk.empty()
    expect(await builtBy(fleet, build)).toBe('small')
    expect((await readBuild(fleet.ledger, build))?.claim).toBe(0)
    small.kill('SIGTERM')
    expect(await small.wait()).toMatchObject({ code: 0 })
  })

  test('on one machine: exit 4 with what to do, and nothing was claimed', LONG, async () => {
    await using disk = await smallDisk()
    await using engine = await startEngine({ dataRoot: disk.path })
    const files = { ...WEB_FILES, 'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n' }
    await using project = await makeProject(files, { DOCKER_HOST: engine.host, BAKE_HOST_LINGER_MS: '5000' })
    await disk.fill()
    const failed = await project.bake(['image'])
    expect(failed, failed.stderr).toMatchObject({ code: 4, stdout: '' })
    expect(failed.stderr).toMatch(/the disk of .* has \d+ MB free of \d+ MB that a build needs/)
    expect(failed.stderr).toMatch(/next: free some space \(docker system df; docker builder prune\)/)
    const [record] = await project.builds()
    expect((await project.claims(record!.commit)).entries).toEqual([])
  })
})

describe.runIf(isRoot)('an engine of its own', () => {
  test('is killed in the middle of a build and started again: the build is tried again and succeeds', LONG, async () => {
    await using gate = await startGate()
    await using engine = await startEngine({ reach: [Number(/127\.0\.0\.1:(\d+)/.exec(gate.dockerfile)![1])] })
    const files = { ...WEB_FILES, 'web/Dockerfile': gate.dockerfile }
    await using project = await makeProject(files, { DOCKER_HOST: engine.host, BAKE_HOST_LINGER_MS: '20000' })
    await using asking = project.start(['image'])
    await waitFor(async () => (await project.host())?.registry, { what: 'the host', deadlineMs: 60_000, intervalMs: 50 })
    await engine.reach(Number((await project.host())!.registry.split(':').at(-1)))
    await waitFor(() => gate.waiting() || undefined, { what: 'a build at the gate', deadlineMs: 60_000, intervalMs: 20 })
    await engine.stop('kill')
    await asking.waitFor('stderr', /retrying in 2 s \(1 of 3 failed\): engine_/, 60_000)
    await engine.start()
    gate.open()
    const built = await asking.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    const [record] = await project.builds()
    const states = (await project.claims(record!.commit)).entries.map(({ state }) => state)
    expect(states).toEqual(['claimed', 'failed', 'claimed', 'published'])
  })
})
