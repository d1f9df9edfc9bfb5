import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { packageFile } from '../../src/package-root.ts'
import { backingOf } from '../../src/qcow2.ts'
import { waitFor } from '../../src/wait.ts'
import { bakesDirectly } from '../support/bakes-directly.ts'
import { type DiskService, startDiskService } from '../support/disk-service.ts'
import { leftBehind } from '../support/left-behind.ts'
import { makeMachineProject } from '../support/machine-project.ts'
import type { TestProject } from '../support/project.ts'
import { giveTo, makeUser, type User } from '../support/user.ts'

const BAKE = { timeout: 300_000 }
const HELPER = packageFile('templates/direct/helper.sh')
const run = promisify(execFile)
/** The line of docs/direct-bake.md. */
const SUDOERS = `nobody ALL=(root) NOPASSWD: ${HELPER} ""\n`

describe.skipIf(!bakesDirectly)('a user who isn’t root', () => {
  let project: TestProject
  beforeAll(async () => {
    project = await makeMachineProject('    web: { image: web, ports: ["80:3000"] }\n')
    await project.repo.git('tag', 'v1')
    await mkdir(join(project.dir, '.bake/home'), { recursive: true })
    project.env.HOME = join(project.dir, '.bake/home')
    project.env.BAKE_HOST_LINGER_MS = '600000'
  }, 900_000)
  afterAll(() => project?.[Symbol.asyncDispose]())
  afterEach(async () => expect(await leftBehind(project.dir)).toEqual([]))

  describe.each<[string, string]>([
    ['a service mounts disks for', ''],
    ['sudo asks no password', SUDOERS],
  ])('whom %s', (_, sudoers) => {
    let user: User
    let service: DiskService | undefined
    beforeAll(async () => {
      user = await makeUser(project.dir, { sudoers })
      if (sudoers === '') service = await startDiskService(HELPER, user.name, user.rootPrefix)
      project.env.BAKE_DISK_SOCKET = service?.socket ?? '/nowhere'
    })
    afterAll(async () => {
      await service?.[Symbol.asyncDispose]()
      await user[Symbol.asyncDispose]()
    })
    const bake = async (...args: string[]) => {
      await giveTo(user, project.dir)
      const result = await project.bake(args, { prefix: user.prefix })
      expect(result, result.stderr.slice(-4000)).toMatchObject({ code: 0 })
      return { ...result, json: JSON.parse(result.stdout) as { baker: string; image: { path: string } } }
    }
    const ami = (release: string) => bake('ami', '--release', release, '--no-verify', '--json')
    const tag = async (release: string) => {
      // git works in its own user's directories only.
      await run('find', [project.dir, '-path', join(project.dir, '.bake'), '-prune', '-o', '-exec', 'chown', 'root:', '{}', '+'])
      await project.repo.commit({ 'web/index.html': `${release} ${sudoers.length}\n` })
      await project.repo.git('tag', release)
    }

    test('bakes disks directly, each over the last one, and all files are the user’s', BAKE, async () => {
      const [one, two] = [`one-${sudoers.length}`, `two-${sudoers.length}`]
      await tag(one)
      const first = await ami(one)
      expect(first.json).toMatchObject({ status: 'baked', baker: 'direct' })
      await tag(two)
      const next = await ami(two)
      expect(next.stderr).toContain(`from the disk of release ${one}`)
      expect(await backingOf(next.json.image.path)).toBe(first.json.image.path)
      const others = await run('find', [join(project.dir, '.bake'), '-not', '-user', user.name])
      expect(others.stdout).toBe('')
    })

    test.each(['SIGKILL', 'SIGINT'] as const)('leaves nothing behind after %s, and bakes again', BAKE, async (signal) => {
      const release = `${signal}-${sudoers.length}`
      await tag(release)
      await giveTo(user, project.dir)
      {
        const args = ['ami', '--release', release, '--no-verify', '--progress', 'plain']
        await using running = project.start(args, { prefix: user.prefix })
        await running.waitFor('stderr', /^machine {2}install$/m, 120_000)
        running.kill(signal)
        const end = await running.wait()
        if (signal === 'SIGINT') expect(end, end.stderr.slice(-2000)).toMatchObject({ code: 130 })
      }
      const left = async () => [...(await leftBehind(project.dir)), ...(await helpers())]
      // Ctrl-C waits for it.
      if (signal === 'SIGINT') expect(await left()).toEqual([])
      await waitFor(async () => ((await left()).length === 0 ? true : undefined), {
        what: 'the helper and its mounts to be gone',
        deadlineMs: 20_000,
        intervalMs: 50,
      })
      for (const _ of ['marked', 'deleted']) await bake('prune', '--json')
      expect((await ami(release)).json).toMatchObject({ status: 'baked', baker: 'direct' })
    })
    const helpers = async () =>
      (await project.processes()).filter((line) => /dockerd|containerd|qemu|slirp|helper\.sh|change\.sh/.test(line))
  })

  test('and whom nobody mounts disks for is told so', async () => {
    await using user = await makeUser(project.dir)
    await giveTo(user, project.dir)
    await using refusing = await startDiskService(HELPER, 'nobody-at-all')
    await using silent = await startDiskService('/bin/true', user.name)
    for (const socket of ['/nowhere', refusing.socket, silent.socket]) {
      project.env.BAKE_DISK_SOCKET = socket
      const { stdout } = await project.bake(['doctor', '--json'], { prefix: user.prefix })
      const { checks } = JSON.parse(stdout) as { checks: { id: string; detail: string }[] }
      expect(checks.find(({ id }) => id === 'direct_bakes')).toMatchObject({
        status: 'warning',
        detail: expect.stringMatching(/^nobody mounts disks for this user/),
      })
    }
  })
})
