import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { waitFor } from '../../src/wait.ts'
import type { RunningBake } from '../support/bake.ts'
import { bootsMachines } from '../support/boots-machines.ts'
import { makeMachineProject } from '../support/machine-project.ts'
import type { TestProject } from '../support/project.ts'

/** In software emulation, on a busy machine. */
const BAKE = { timeout: 1_200_000 }
const PHASE_MS = 900_000

/** Of Packer's, in order. `setup` has nothing to do here: a signal finds the next one. */
const PHASES = ['boot', 'upload', 'prepare', 'images', 'install', 'setup', 'rehearse', 'clean', 'scan', 'power-off']

describe.skipIf(!bootsMachines)('nothing is left when SIGKILL ends', () => {
  let project: TestProject
  beforeAll(async () => {
    project = await makeMachineProject(
      '    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/", within: 120s } }\n',
      { more: '  baker: packer\n' },
    )
    await project.repo.git('tag', 'v1')
    const built = await project.bake(['image'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
  }, 900_000)
  afterAll(() => project?.[Symbol.asyncDispose]())

  const machines = async () => (await project.processes()).filter((line) => /qemu|packer/.test(line))
  const left = async () => {
    const bakes = await readdir(join(project.dir, '.bake/bakes'), { recursive: true }).catch(() => [])
    const kept = await readdir(join(project.dir, '.bake/machines'), { recursive: true }).catch(() => [])
    return { bakes, kept, secrets: (await readdir('/dev/shm')).filter((name) => name.startsWith('bake-secrets-')) }
  }
  const before = new Set<string>()
  async function until(phase: string): Promise<RunningBake> {
    for (const name of (await left()).secrets) before.add(name)
    const running = project.start(['ami', '--release', 'v1', '--progress', 'plain'])
    await running.waitFor('stderr', new RegExp(`^machine  ${phase}$`, 'm'), PHASE_MS)
    return running
  }
  async function pruned() {
    for (const what of ['marked', 'deleted']) {
      const { code, stdout, stderr } = await project.bake(['prune', '--json'])
      expect(code, stderr).toBe(0)
      const { pruned } = JSON.parse(stdout) as { pruned: { did: string }[] }
      expect(pruned.every(({ did }) => did === what)).toBe(true)
    }
  }
  const noMachines = () =>
    waitFor(async () => ((await machines()).length === 0 ? true : undefined), {
      what: 'the machines to be gone',
      deadlineMs: 30_000,
      intervalMs: 100,
    }).catch(async (error) => {
      throw new Error((await machines()).join('\n'), { cause: error })
    })

  async function killed(phase: string) {
    await using running = await until(phase)
    running.kill('SIGKILL')
    await running.wait()
    await noMachines()
    await pruned()
    const { bakes, kept } = await left()
    expect({ bakes, kept }).toEqual({ bakes: [], kept: [] })
  }

  test.each(PHASES)('bake in phase %s, once it is pruned', BAKE, killed)

  test.each(PHASES.filter((phase) => phase !== 'setup'))('Packer in phase %s, and bake says so', BAKE, async (phase) => {
    await using running = await until(phase)
    const [pid] = (await machines()).filter((line) => line.includes('packer build')).map((line) => Number(/\d+/.exec(line)![0]))
    process.kill(pid!, 'SIGKILL')
    const { code, stderr } = await running.wait()
    expect(code, stderr.slice(-2000)).toBe(3)
    expect(stderr).toMatch(new RegExp(`${phase}: packer build was killed`))
    expect(await machines()).toEqual([])
    const { bakes, kept, secrets } = await left()
    expect({ bakes, kept, secrets: secrets.filter((name) => !before.has(name)) }).toEqual({ bakes: [], kept: [], secrets: [] })
  })

  test('bake while the disk is proven, which the bakes after the others got to', BAKE, async () => {
    await killed('proof')
  })
})
