import { mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectError } from '../support/bad-input.ts'
import { makeDisk } from '../support/disk-maker.ts'
import { startGate } from '../support/gate.ts'
import { makeProject, type TestProject } from '../support/project.ts'

/** `bake ami` up to where a virtual machine would start: images by the real engine and registry, the base a real disk. */
const YAML = `project: shop
images:
  web: { context: web }
  jobs: { context: jobs }
machine:
  base: { disk: .git/base.raw }
  services:
    web: { image: web }
    jobs: { image: jobs }
`
const FILES = {
  'bake.yaml': YAML,
  'web/Dockerfile': `FROM scratch\nCOPY content /\n# ${Math.random()}\n`,
  'web/content': 'web\n',
  'jobs/Dockerfile': `FROM scratch\nCOPY content /\n# ${Math.random()}\n`,
  'jobs/content': 'jobs\n',
}
const LONG = { timeout: 240_000 }

let project: TestProject
beforeAll(async () => {
  project = await makeProject(FILES, { BAKE_HOST_LINGER_MS: '10000' })
  const root = { type: 0x83, active: true, startMib: 1, sizeMib: 40, fileSystem: 'ext4' } as const
  // A base is no part of any commit.
  await makeDisk(join(project.dir, '.git/base.raw'), { scheme: 'mbr', bootCode: true, partitions: [root] }, 64)
})
afterAll(() => project[Symbol.asyncDispose]())

/** A release that differs from the files above by `change`. */
async function tagged(name: string, change: Record<string, string> = {}): Promise<void> {
  await project.repo.commit({ ...FILES, ...change })
  await project.repo.git('tag', name)
}

/** Nothing that speaks of machines is in the ledger, and no directory of theirs on the disk. */
async function expectNothingBaked(): Promise<void> {
  const found = await project.ledger.list('')
  expect(found.filter((key) => /^(releases|machines|bakes|release-machines|bases)\//.test(key))).toEqual([])
  expect((await readdir(join(project.dir, '.bake'))).filter((name) => name === 'bakes' || name === 'machines')).toEqual([])
}

test('without Packer nothing is built where Packer is asked for', LONG, async () => {
  await tagged('v0')
  // Everything that is needed but Packer.
  const bin = join(project.dir, '.git/bin')
  await mkdir(bin)
  for (const dir of ['/usr/bin', '/bin']) {
    for (const name of await readdir(dir)) if (name !== 'packer') await symlink(join(dir, name), join(bin, name)).catch(() => {})
  }
  const result = await project.bake(['ami', '--release', 'v0', '--baker', 'packer'], { env: { PATH: bin } })
  expectError(result, { exit: 4, error: /Packer is not installed/, next: /packer/i })
  expect(await project.builds()).toEqual([])
  await expectNothingBaked()
})

describe('images that aren’t built yet', () => {
  test(
    'are built in parallel, with their story; a disk too small for them is told before the bake, with the size that would do',
    LONG,
    async () => {
      await tagged('v1')
      const dry = await project.bake(['ami', '--release', 'v1', '--dry-run'])
      expect(dry.stdout, dry.stderr).toBe(
        'web  build: nobody has published it\njobs  build: nobody has published it\nmachine  build images, then bake: web, jobs must be built first\n',
      )
      const result = await project.bake(['ami', '--release', 'v1'])
      expectError(result, {
        exit: 2,
        error: /base\.raw has 0\.\d GiB free, and the images need 0\.3 GiB at least/,
        next: /a disk of 1 GB would do: bake base/,
      })
      expect(result.stderr).toMatch(/^web {2}claimed on /m)
      expect(result.stderr).toMatch(/^jobs {2}.*built in /m)
      expect(result.stderr).toMatch(/^machine {2}check … failed after /m)
      expect((await project.builds()).map(({ status }) => status)).toEqual(['built', 'built'])
      await expectNothingBaked()
      const after = await project.bake(['ami', '--release', 'v1', '--dry-run', '--json'])
      expect(JSON.parse(after.stdout)).toMatchObject({
        action: 'bake',
        inputs: expect.stringMatching(/^[0-9a-f]{64}$/),
        images: [{ service: 'web' }, { service: 'jobs' }],
      })
    },
  )

  test('that don’t build end the bake with their reason', LONG, async () => {
    await tagged('v2', { 'jobs/Dockerfile': 'FROM scratch\nCOPY nothing /\n' })
    const result = await project.bake(['ami', '--release', 'v2'])
    expectError(result, { exit: 3, error: /image jobs: .*nothing/, next: /./ })
    await expectNothingBaked()
  })

  test('of another processor than the base are refused before anything is built', LONG, async () => {
    const before = (await project.builds()).length
    await tagged('v3', { 'bake.yaml': YAML.replace('context: jobs', 'context: jobs, platforms: [linux/arm64]') })
    const result = await project.bake(['ami', '--release', 'v3'])
    expectError(result, {
      exit: 2,
      error: /service jobs: image jobs is for linux\/arm64, and the base is linux\/amd64/,
      next: /images\.jobs\.platforms/,
    })
    expect(await project.builds()).toHaveLength(before)
    await expectNothingBaked()
  })

  test('go on building when the bake is stopped with Ctrl-C', LONG, async () => {
    await using gate = await startGate()
    await tagged('v4', { 'web/Dockerfile': gate.dockerfile, 'web/server.js': `// ${Math.random()}\n` })
    await using running = project.start(['ami', '--release', 'v4'])
    await gate.entered()
    running.kill('SIGINT')
    const { code, stderr } = await running.wait()
    expect(code, stderr).toBe(130)
    expect(stderr).toMatch(/images go on building: bake logs .* --follow/)
    gate.open()
    const [newest] = await project.builds()
    expect((await project.bake(['logs', newest!.build, '--follow'])).code).toBe(0)
    await expectNothingBaked()
  })
})
