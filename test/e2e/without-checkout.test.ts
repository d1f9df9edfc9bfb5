import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { makeProject, WEB_FILES } from '../support/project.ts'

/** A project, and a directory elsewhere that has nothing of it: a CI runner. */
async function runner() {
  const project = await makeProject({ ...WEB_FILES, 'README.md': String(Math.random()) })
  const dir = await mkdtemp(join(tmpdir(), 'bake-runner-'))
  const stateDir = join(project.dir, '.bake')
  return {
    project,
    dir,
    bake: (args: string[], env: Record<string, string> = {}) =>
      project.bake(args, { cwd: dir, env: { BAKE_STATE_DIR: stateDir, ...env } }),
    async [Symbol.asyncDispose]() {
      await project[Symbol.asyncDispose]()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

describe('bake image without a checkout', { timeout: 240_000 }, () => {
  test('BAKE_REPOSITORY is all that it needs: the commit’s images, under the names of a build from a checkout', async () => {
    await using it = await runner()
    const env = { BAKE_REPOSITORY: it.project.dir }
    const commit = await it.project.repo.git('rev-parse', 'HEAD')
    const first = await it.bake(['image', '--sha', commit, '--branch', 'main', '--json'], env)
    expect(first, first.stderr).toMatchObject({ code: 0 })
    const document = JSON.parse(first.stdout)
    expect(document).toMatchObject({ commit, branch: 'main', images: [{ image: 'web', status: 'built' }] })
    expect(await it.project.tagged(`sha-${commit}`)).toBe(document.images[0].digest)
    expect(await it.project.tagged('branch-main')).toBe(document.images[0].digest)
    // Asked again, there as in a checkout, nothing is built.
    const again = await it.bake(['image', '--json'], env)
    expect(JSON.parse(again.stdout).images).toMatchObject([{ status: 'current', digest: document.images[0].digest }])
    expect((await it.bake(['builds', '--json'], env)).stdout).toContain(document.images[0].build)
  })

  test('connection settings are those of the default branch, images those of the commit', async () => {
    await using it = await runner()
    const env = { BAKE_REPOSITORY: it.project.dir }
    await it.project.repo.git('checkout', '-q', '-b', 'other')
    const commit = await it.project.repo.commit({
      'bake.yaml': 'project: shop\nregistry: registry.invalid/x\nimages: { jobs: jobs }\n',
      'jobs/Dockerfile': 'FROM scratch\nCOPY x /\n',
      'jobs/x': 'x',
    })
    await it.project.repo.git('checkout', '-q', 'main')
    const { code, stdout, stderr } = await it.bake(['image', '--branch', 'other', '--json'], env)
    expect(code, stderr).toBe(0)
    const document = JSON.parse(stdout)
    expect(document).toMatchObject({ commit, branch: 'other', images: [{ image: 'jobs', status: 'built' }] })
    expect(document.images[0].reference).toMatch(/^localhost:\d+\/shop\/jobs@sha256:/)
  })

  test('a bake.yaml alone is enough too when it says where the repository is, and BAKE_CONFIG where it is', async () => {
    await using it = await runner()
    const config = `project: shop\nrepository: ${it.project.dir}\nimages: { x: x }\n`
    await writeFile(join(it.dir, 'bake.yaml'), config)
    const there = await it.bake(['image', '--branch', 'main', '--dry-run', '--json'])
    expect(JSON.parse(there.stdout).images, there.stderr).toMatchObject([{ image: 'web', action: 'build' }])
    await rm(join(it.dir, 'bake.yaml'))
    await writeFile(join(it.dir, 'connection.yaml'), config)
    const named = await it.bake(['image', '--dry-run', '--json'], { BAKE_CONFIG: 'connection.yaml' })
    expect(JSON.parse(named.stdout).images, named.stderr).toMatchObject([{ image: 'web', action: 'build' }])
  })

  test('says what is missing', async () => {
    await using it = await runner()
    const env = { BAKE_REPOSITORY: it.project.dir }
    const cases: [string[], Record<string, string>, number, RegExp][] = [
      [['image'], {}, 2, /there is no bake\.yaml/],
      [['image', '--sha', 'a'.repeat(40)], env, 2, /commit a{40} is not in .*\n.*git push/],
      [['image', '--sha', 'abcd123'], env, 2, /give all digits/],
      [['image'], { ...env, BAKE_CONFIG_PATH: 'shop/bake.yaml' }, 2, /has no main:shop\/bake\.yaml/],
      [['image'], { ...env, BAKE_CONFIG_PATH: '../bake.yaml' }, 2, /is no path inside a repository/],
      [['image'], { BAKE_REPOSITORY: 'ext::sh' }, 2, /transport helper/],
      [['image'], { BAKE_REPOSITORY: join(it.dir, 'nowhere') }, 4, /can't fetch from/],
    ]
    for (const [args, more, code, message] of cases) {
      const result = await it.bake(args, more)
      expect(result.stderr).toMatch(message)
      expect(result.code).toBe(code)
    }
  })
})
