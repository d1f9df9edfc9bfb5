import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { stopHost } from '../../src/io/host/status.ts'
import { waitFor } from '../../src/wait.ts'
import { startGate } from '../support/gate.ts'
import { kill9 } from '../support/host.ts'
import { makeProject, type TestProject, WEB_FILES } from '../support/project.ts'

const scratch = (dockerfile = 'FROM scratch\nCOPY server.js /\n') => ({ ...WEB_FILES, 'web/Dockerfile': dockerfile })

const ports = async (project: TestProject) =>
  JSON.parse(await readFile(join(project.dir, '.bake/ports.json'), 'utf8')) as { queue: number; registry: number }

const listenOn = async (port: number): Promise<AsyncDisposable> => {
  const server = createServer().listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    async [Symbol.asyncDispose]() {
      server.close()
      await once(server, 'close')
    },
  }
}

const buildxEnds = (project: TestProject) =>
  waitFor(async () => ((await project.processes()).some((line) => line.includes('buildx')) ? undefined : true), {
    what: 'buildx to die with its host',
    deadlineMs: 20_000,
    intervalMs: 50,
  })

const ended = (project: TestProject) =>
  waitFor(async () => ((await project.builds()).every(({ endedAt }) => endedAt !== undefined) ? true : undefined), {
    what: 'all builds to end',
    deadlineMs: 90_000,
    intervalMs: 100,
  })

async function expectOnePublished(project: TestProject) {
  const [record, ...others] = await project.builds()
  expect(others).toEqual([])
  expect(record).toMatchObject({ status: 'built' })
  const states = (await project.claims(record!.commit)).entries.map((entry) => entry.state)
  expect(states.filter((state) => state === 'published')).toHaveLength(1)
  expect(states.at(-1)).toBe('published')
  expect(await project.tagged(`sha-${record!.commit}`)).toBe(record!.digest)
}

describe('the host is killed', { timeout: 180_000 }, () => {
  test('while its worker builds and a client follows: the client starts another, the build completes', async () => {
    await using gate = await startGate()
    await using project = await makeProject(scratch(gate.dockerfile))
    await using asking = project.start(['image'])
    await gate.entered()
    const before = { ...(await project.host())!, ports: await ports(project) }
    await kill9(before.pid)
    await buildxEnds(project)
    await asking.waitFor('stderr', /the host process is gone; starting another/)
    await waitFor(async () => ((await project.host())?.pid !== before.pid ? true : undefined), {
      what: 'another host',
      deadlineMs: 40_000,
      intervalMs: 20,
    })
    await gate.entered()
    gate.open()
    const built = await asking.wait()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(built.stdout).toContain(before.registry)
    expect(await ports(project)).toEqual(before.ports)
    await expectOnePublished(project)
  })

  test.each([
    ['bake logs --follow', ['logs', 'latest', '--follow']],
    ['bake builds', ['builds']],
    ['bake build', ['build', 'latest']],
  ])('while nobody follows: %s has the job completed', async (_, command) => {
    await using gate = await startGate()
    await using project = await makeProject(scratch(gate.dockerfile))
    const asked = await project.bake(['image', '--no-wait'])
    expect(asked, asked.stderr).toMatchObject({ code: 0 })
    await gate.entered()
    await kill9((await project.host())!.pid)
    gate.open()
    const told = await project.bake(command)
    expect(told, told.stderr).toMatchObject({ code: 0 })
    await ended(project)
    await expectOnePublished(project)
  })

  test('and its port is taken before another can start: the client says so instead of waiting for ever; the job is kept', async () => {
    await using gate = await startGate()
    await using project = await makeProject(scratch(gate.dockerfile))
    await using asking = project.start(['image', '--json'])
    await gate.entered()
    const { queue } = await ports(project)
    const taking = (async () => {
      for (;;) {
        const server = await listenOn(queue).catch(() => undefined)
        if (server) return server
        await sleep(1)
      }
    })()
    process.kill((await project.host())!.pid, 'SIGKILL')
    {
      await using _taken = await taking
      const gone = await asking.wait()
      expect(gone, gone.stderr).toMatchObject({ code: 4 })
      expect(JSON.parse(gone.stdout)).toMatchObject({
        error: { code: 'port_taken', next: expect.stringContaining('Stop it'), ids: { pid: String(process.pid) } },
      })
    }
    gate.open()
    const told = await project.bake(['logs', 'latest', '--follow'])
    expect(told, told.stderr).toMatchObject({ code: 0 })
    await expectOnePublished(project)
  })
})

test.each(['queue', 'registry'] as const)(
  'the port of the %s is taken: exit 4 with who has it; free again, all goes on',
  async (which) => {
    await using project = await makeProject(scratch())
    expect((await project.bake(['image'])).code).toBe(0)
    await stopHost(join(project.dir, '.bake'))
    await project.repo.commit({ 'web/server.js': 'console.log(2)\n' })
    {
      await using _taken = await listenOn((await ports(project))[which])
      const refused = await project.bake(['image'])
      expect(refused, refused.stderr).toMatchObject({ code: 4, stdout: '' })
      expect(refused.stderr).toMatch(
        new RegExp(`error: port \\d+ of this project's ${which} is in use by process ${process.pid} `),
      )
      expect(refused.stderr).toMatch(/next: Stop it and run the command again\./)
    }
    expect(await project.builds()).toHaveLength(1)
    const built = await project.bake(['image'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
  },
)

test('the state directory is deleted while a client follows: exit 4 with the next step; the next command starts anew', async () => {
  await using gate = await startGate()
  await using project = await makeProject(scratch(gate.dockerfile))
  await using asking = project.start(['image', '--json'])
  await gate.entered()
  // The context is on its way to the engine at the same time, from there.
  await sleep(1_000)
  const { pid } = (await project.host())!
  await rm(join(project.dir, '.bake'), { recursive: true, force: true, maxRetries: 5 })
  const lost = await asking.wait()
  expect(lost, lost.stderr).toMatchObject({ code: 4 })
  expect(JSON.parse(lost.stdout)).toMatchObject({ error: { code: 'build_gone', next: expect.stringContaining('bake image') } })
  await waitFor(() => (existsSync(`/proc/${pid}`) ? undefined : true), { what: 'its end', deadlineMs: 40_000, intervalMs: 50 })
  await buildxEnds(project)
  gate.open()
  const built = await project.bake(['image'])
  expect(built, built.stderr).toMatchObject({ code: 0 })
  await expectOnePublished(project)
})
