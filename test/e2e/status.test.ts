import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { FleetStatus } from '../../src/jobs/fleet-status.ts'
import { waitFor } from '../../src/wait.ts'
import type { RunningBake } from '../support/bake.ts'
import { parseExposition } from '../support/exposition.ts'
import { makeFleet } from '../support/fleet.ts'
import { startGate } from '../support/gate.ts'
import { makeProject, WEB_FILES } from '../support/project.ts'
import { openTerminal } from '../support/terminal.ts'

const LONG = { timeout: 240_000 }
const ALONE = { BAKE_DEFAULT_WORKER: '0', BAKE_HOST_LINGER_MS: '20000' }
const DEV = join(import.meta.dirname, '../../bin/dev.js')
const files = (dockerfile: string) => ({ 'web/Dockerfile': dockerfile, 'web/server.js': `// ${Math.random()}\n` })

describe('bake status on one machine', () => {
  test('where nothing runs it says so and starts nothing', LONG, async () => {
    await using project = await makeProject()
    const before = await project.bake(['status'])
    expect(before, before.stderr).toMatchObject({ code: 0 })
    expect(before.stdout).toMatch(/^shop {2}no worker, 0 jobs waiting, no host process runs/)
    expect(existsSync(join(project.dir, '.bake', 'host.json'))).toBe(false)
    const json = await project.bake(['status', '--json'])
    expect(JSON.parse(json.stdout)).toMatchObject({ version: 1, project: 'shop', serving: false, workers: [], failures: [] })
  })

  test('live on a terminal: a worker, what it builds, what waits; Ctrl-C ends it', LONG, async () => {
    await using gate = await startGate()
    await using project = await makeProject({ ...WEB_FILES, 'web/Dockerfile': gate.dockerfile }, ALONE)
    await using worker = project.start(['worker', '--slots', '1', '--name', 'big'])
    await worker.waitFor('stderr', /is ready/)
    expect((await project.bake(['image', '--no-wait'])).code).toBe(0)
    await gate.entered()
    await project.repo.commit({ 'web/server.js': `// ${Math.random()}\n` })
    const waits = (await project.bake(['image', '--no-wait'])).stdout.trim()

    const command = `cd ${project.dir} && ${process.execPath} --disable-warning=ExperimentalWarning ${DEV} status --interval 1`
    await using terminal = await openTerminal(command, { columns: 110, rows: 20 })
    const shown = await terminal.waitFor(/^big .*web/, 60_000)
    expect(shown[0]).toMatch(/^shop {2}1 worker, 1 of 1 slot busy, 1 job waiting$/)
    expect(shown.find((row) => row.startsWith('big'))).toMatch(/^big +ready +1\/1 {2}web [\d.]+ (s|min).* [0-9a-z]{9}/)
    expect(shown.find((row) => row.startsWith('normal'))).toMatch(new RegExp(`^normal +1 .*: web ${waits.slice(0, 9)}$`))
    expect(await terminal.cursorShown()).toBe(false)

    gate.open()
    await terminal.waitFor(/^shop {2}1 worker, 0 of 1 slot busy, 0 jobs waiting$/, 60_000)
    await terminal.waitFor(/^big .* 1: web/, 30_000)
    await terminal.resize(60, 20)
    await waitFor(async () => ((await terminal.screen()).every((row) => row.length < 60) ? true : undefined), {
      what: 'a narrower frame',
      deadlineMs: 20_000,
      intervalMs: 100,
    })
    await terminal.press('C-c')
    const left = await terminal.waitFor(/^ended 130/, 20_000)
    expect(left.some((row) => row.startsWith('big'))).toBe(true)
    expect(await terminal.cursorShown()).toBe(true)
    worker.kill('SIGTERM')
    expect((await worker.wait()).code).toBe(0)
  })

  test('a failed build is told with why; a killed worker is lost, not gone', LONG, async () => {
    await using project = await makeProject(
      { ...WEB_FILES, 'web/Dockerfile': 'FROM scratch\nCOPY nothing-here /\n' },
      { ...ALONE, BAKE_LEASE_SECONDS: '2' },
    )
    await using worker = project.start(['worker', '--name', 'big'])
    await worker.waitFor('stderr', /is ready/)
    expect((await project.bake(['image'])).code).toBe(3)
    const status = async () => JSON.parse((await project.bake(['status', '--json'])).stdout) as FleetStatus
    // Whoever asked knows of the end before the worker has put its things away.
    const ready = async () => {
      const now = await status()
      return now.workers[0]?.state === 'ready' ? now : undefined
    }
    const after = await waitFor(ready, { what: 'the worker to be ready again', deadlineMs: 10_000, intervalMs: 100 })
    expect(after).toMatchObject({
      serving: true,
      workers: [{ name: 'big' }],
      failures: [
        { image: 'web', worker: 'big', code: expect.stringMatching(/./), message: expect.stringContaining('nothing-here') },
      ],
    })
    worker.kill('SIGKILL')
    await worker.wait()
    await waitFor(async () => ((await status()).workers[0]?.state === 'lost' ? true : undefined), {
      what: 'the worker to be seen as lost',
      deadlineMs: 30_000,
      intervalMs: 200,
    })
  })
})

describe('a worker of a fleet', () => {
  test('its log is JSON, /metrics and /healthz answer, and bake status shows it with its shards', LONG, async () => {
    await using gate = await startGate()
    await using fleet = await makeFleet({ files: files(gate.dockerfile), shards: 2 })
    const quiet = { AWS_EC2_METADATA_DISABLED: 'true' }
    const args = ['--log-format', 'json', '--listen', '127.0.0.1:0', '--slots', '1']
    const worker = await fleet.worker('first', { args, env: quiet })
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(await worker.waitFor('stderr', /\/healthz and \/metrics at/))![0]
    const asked = await fleet.bake(['image', '--no-wait'])
    expect(asked, asked.stderr).toMatchObject({ code: 0 })
    const build = asked.stdout.trim()
    await gate.entered()

    const status = await waitFor(
      async () => {
        const now = JSON.parse((await fleet.bake(['status', '--json'])).stdout) as FleetStatus
        return now.workers[0]?.running.length === 1 ? now : undefined
      },
      { what: 'the build in the fleet’s status', deadlineMs: 30_000, intervalMs: 300 },
    )
    expect(status).toMatchObject({
      ...{ version: 1, aws: true, serving: true, dead: 0, problems: [] },
      workers: [{ name: 'first', state: 'ready', slots: 1, busy: 1, running: [{ build, image: 'web' }] }],
    })
    expect(status.workers[0]!.shards.toSorted()).toEqual([0, 1])
    expect(status.queues).toHaveLength(4)
    expect(status.queues.reduce((sum, { inFlight }) => sum + inFlight, 0)).toBe(1)

    const health = await fetch(`${url}/healthz`)
    expect([health.status, await health.json()]).toMatchObject([
      200,
      { status: 'ok', worker: 'first', state: 'ready', slots: 1, busy: 1, reasons: [] },
    ])
    gate.open()
    await worker.waitFor('stderr', /"event":"ended"/, 60_000)
    const { samples } = parseExposition(await (await fetch(`${url}/metrics`)).text())
    const value = (name: string) => samples.find((sample) => sample.name === name)
    expect(value('bake_builds_total')).toMatchObject({ labels: { image: 'web', status: 'built' }, value: 1 })
    expect(value('bake_claim_wait_seconds_count')).toMatchObject({ value: 1 })
    expect(samples.filter(({ name }) => name === 'bake_queue_visible')).toHaveLength(4)

    worker.kill('SIGTERM')
    expect(await worker.wait()).toMatchObject({ code: 0 })
    const lines = told(worker)
    for (const line of lines) expect(line).toMatchObject({ time: expect.stringMatching(/^\d{4}-.*Z$/), worker: 'first' })
    const about = lines.filter((line) => line.build === build)
    expect(about.map(({ event, image }) => `${image} ${event}`)).toEqual(['web received', 'web claimed', 'web ended'])
    expect(lines.at(-1)).toMatchObject({ message: 'worker drained' })
  })

  test('who lives decides which shards a worker prefers: another one comes, and is killed', LONG, async () => {
    await using fleet = await makeFleet({ shards: 4 })
    const env = { AWS_EC2_METADATA_DISABLED: 'true', BAKE_LEASE_SECONDS: '6' }
    const shardsOf = async (name: string) => {
      const { workers } = JSON.parse((await fleet.bake(['status', '--json'])).stdout) as FleetStatus
      return workers
        .find((worker) => worker.name === name && worker.state === 'ready')
        ?.shards.toSorted()
        .join()
    }
    const become = (name: string, shards: string) =>
      waitFor(async () => ((await shardsOf(name)) === shards ? true : undefined), {
        what: `${name} to prefer ${shards}`,
        deadlineMs: 60_000,
        intervalMs: 1_000,
      })
    await fleet.worker('first', { env })
    // Alone it has all of them.
    await become('first', '0,1,2,3')
    const second = await fleet.worker('second', { env })
    await become('second', '0,3')
    await become('first', '1,2')
    second.kill('SIGKILL')
    await second.wait()
    await become('first', '0,1,2,3')
  })

  test(
    'is unhealthy with a reason when its engine is gone or the ledger takes no heartbeat; an address in use ends it as JSON',
    LONG,
    async () => {
      await using fleet = await makeFleet()
      const env = { AWS_EC2_METADATA_DISABLED: 'true', BAKE_LEASE_SECONDS: '3', DOCKER_HOST: 'unix:///nowhere/docker.sock' }
      const args = ['--log-format', 'json', '--listen', '127.0.0.1:0']
      const worker = await fleet.worker('first', { args, env })
      const url = /http:\/\/(127\.0\.0\.1:\d+)/.exec(await worker.waitFor('stderr', /\/healthz and \/metrics at/))!
      const sick = await fetch(`${url[0]}/healthz`)
      expect([sick.status, await sick.json()]).toMatchObject([
        503,
        { status: 'unhealthy', reasons: [{ code: 'engine_unreachable' }] },
      ])

      const second = await fleet
        .start(['worker', '--name', 'second', '--log-format', 'json', '--listen', url[1]!], { env })
        .wait()
      expect(second.code).toBe(4)
      const last = JSON.parse(second.stderr.trim().split('\n').at(-1)!)
      expect(last).toMatchObject({ level: 'error', worker: 'second', event: 'fatal', code: 'port_taken' })

      await fleet.moto.stop()
      await worker.waitFor('stderr', /"event":"lease-lost"/, 60_000)
      const { reasons } = (await (await fetch(`${url[0]}/healthz`)).json()) as { reasons: { code: string }[] }
      expect(reasons.map(({ code }) => code)).toContain('no_heartbeat')
    },
  )
})

/** Its lines on stderr, each of which must be JSON. */
const told = (worker: RunningBake) =>
  worker.lines('stderr').map((line) => JSON.parse(line) as { event?: string; build?: string; image?: string; message: string })
