import { execFile } from 'node:child_process'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { convertImage } from '../../src/io/qemu-img.ts'
import { toolEnvironment } from '../../src/io/tool.ts'
import { backingOf } from '../../src/qcow2.ts'
import { waitFor } from '../../src/wait.ts'
import { bakesDirectly } from '../support/bakes-directly.ts'
import { bootsMachines } from '../support/boots-machines.ts'
import { cells } from '../support/cells.ts'
import { leftBehind } from '../support/left-behind.ts'
import { makeMachineProject } from '../support/machine-project.ts'
import type { TestProject } from '../support/project.ts'

const BAKE = { timeout: 300_000 }
const run = promisify(execFile)
const env = toolEnvironment()

interface Baked {
  status: string
  image: { path: string }
  baker: string
  inputs: string
}

describe.skipIf(!bakesDirectly)('a disk baked without a virtual machine', () => {
  let project: TestProject
  beforeAll(async () => {
    project = await makeMachineProject(
      '    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/", within: 120s } }\n',
    )
    project.env.BAKE_HOST_LINGER_MS = '600000'
    await project.repo.git('tag', 'v1')
  }, 900_000)
  afterAll(() => project?.[Symbol.asyncDispose]())
  afterEach(async () => {
    expect(await leftBehind(project.dir)).toEqual([])
    expect(await engines()).toEqual([])
  })
  const engines = async () =>
    (await project.processes()).filter((line) => /dockerd|containerd|qemu|slirp|(?:helper|change)\.sh/.test(line))

  const tag = async (release: string, page: string) => {
    await project.repo.commit({ 'web/index.html': `${page}\n` })
    await project.repo.git('tag', release)
  }
  async function bake(release: string, ...more: string[]) {
    const result = await project.bake(['ami', '--release', release, '--no-verify', '--json', ...more])
    expect(result, result.stderr.slice(-4000)).toMatchObject({ code: 0 })
    return { ...(JSON.parse(result.stdout) as Baked), story: result.stderr }
  }
  const blocks = (story: string) => Number(/(\d+) blocks changed/.exec(story)?.[1])
  /** A file of the disk's root file system, which begins after 1 MiB; its file system is whole. */
  async function onDisk(path: string, ...files: string[]): Promise<string[]> {
    const flat = join(project.dir, '.bake/flat.raw')
    await convertImage({ path, format: 'qcow2' }, { path: flat, format: 'raw' })
    try {
      await run('e2fsck', ['-fn', `${flat}?offset=1048576`], { env })
      const read = async (file: string) => (await run('debugfs', ['-R', `cat ${file}`, `${flat}?offset=1048576`], { env })).stdout
      return await Promise.all(files.map(read))
    } finally {
      await rm(flat)
    }
  }

  test('the first begins with the base, the next with the last one: few blocks change', BAKE, async () => {
    const first = await bake('v1')
    expect(first).toMatchObject({ status: 'baked', baker: 'direct' })
    expect(first.story).toContain('from the base: it is the first of this base')
    await tag('v2', 'another line')
    const next = await bake('v2', '--explain')
    expect(next.story).toContain('from the disk of release v1')
    expect(next.story).toMatch(/\d+ blocks? of \/etc\/bake/)
    expect(blocks(next.story)).toBeGreaterThan(0)
    expect(blocks(next.story)).toBeLessThan(100)
    expect(await backingOf(next.image.path)).toBe(first.image.path)
    const [manifest, images] = await onDisk(
      next.image.path,
      '/etc/bake/manifest.json',
      '/var/lib/docker/image/overlay2/repositories.json',
    )
    const { inputs, images: named } = JSON.parse(manifest!) as { inputs: string; images: { digest: string }[] }
    expect(inputs).toBe(next.inputs)
    expect(images).toContain(named[0]!.digest)
    const [before] = await onDisk(first.image.path, '/etc/bake/manifest.json')
    expect(before).toContain(first.inputs)
    // What only the former release had is gone from the later one.
    expect(images).not.toContain((JSON.parse(before!) as typeof named & { images: typeof named }).images[0]!.digest)
    expect(await bake('v2')).toMatchObject({ status: 'found' })
  })

  test('--rebake begins with the base, and prune takes what nobody stands on', BAKE, async () => {
    const { image, story } = await bake('v2', '--rebake')
    expect(story).toContain('from the base: --rebake begins with the base')
    expect(resolve(dirname(image.path), (await backingOf(image.path))!)).toMatch(/lineages\/\w+\/base\.raw$/)
    for (const _ of ['marked', 'deleted']) expect(await project.bake(['prune', '--json'])).toMatchObject({ code: 0 })
    const left = await readdir(join(project.dir, '.bake/machines'), { recursive: true })
    expect(left.filter((name) => name.endsWith('.qcow2'))).toHaveLength(2)
    await onDisk(image.path)
  })

  test('a last disk that isn’t what was recorded is thrown away, and the disk made from the base', BAKE, async () => {
    await tag('v3', 'a third line')
    const dir = join(project.dir, '.bake/lineages')
    const [hashes] = (await readdir(dir, { recursive: true })).filter((name) => /-[a-z0-9-]+\.sha256$/.test(name))
    // The idle worker would find it as well.
    const [head] = (await readdir(dir, { recursive: true })).filter((name) => name.endsWith('.json'))
    await writeFile(join(dir, `${head}.scrub`), JSON.stringify({ version: 1, at: Date.now(), next: 0 }))
    const bytes = await readFile(join(dir, hashes!))
    await writeFile(join(dir, hashes!), Buffer.alloc(bytes.length))
    const { story, image } = await bake('v3')
    expect(story).toMatch(/the disk of release v2 is thrown away: block \d+ isn't what was recorded/)
    expect(await backingOf(image.path)).toMatch(/base\.raw$/)
  })

  test('two at once both stand on the last one', BAKE, async () => {
    await tag('v4', 'four')
    await tag('v5', 'five')
    await project.bake(['image'])
    const [four, five] = await Promise.all([bake('v4'), bake('v5')])
    expect(new Set([four.image.path, five.image.path]).size).toBe(2)
    for (const { image, inputs } of [four, five])
      expect((await onDisk(image.path, '/etc/bake/manifest.json'))[0]).toContain(inputs)
  })

  async function killed(release: string, point: string): Promise<void> {
    const args = ['ami', '--release', release, '--no-verify', '--progress', 'plain']
    if (point.includes('-')) {
      await project.bake(args, { env: { BAKE_FAILPOINT: `${point}:kill` } })
    } else {
      await using running = project.start(args)
      await running.waitFor('stderr', new RegExp(`^machine  ${point}$`, 'm'), 120_000)
      running.kill('SIGKILL')
      await running.wait()
    }
    await waitFor(async () => ([...(await engines()), ...(await leftBehind(project.dir))].length === 0 ? true : undefined), {
      what: 'the engine and its mounts to be gone',
      deadlineMs: 20_000,
      intervalMs: 50,
    })
  }
  /** Two passes remove all that there is to remove. */
  async function pruned(): Promise<void> {
    for (const _ of ['marked', 'deleted']) expect(await project.bake(['prune', '--json'])).toMatchObject({ code: 0 })
    const { stdout } = await project.bake(['prune', '--json'])
    expect(JSON.parse(stdout)).toMatchObject({ pruned: [] })
    expect(await readdir(join(project.dir, '.bake/bakes'))).toEqual([])
    const files = await readdir(join(project.dir, '.bake/lineages'), { recursive: true }).catch(() => [])
    expect(files.filter((name) => name.endsWith('.tmp'))).toEqual([])
    // Of one lineage: the last disk's hashes, and no other's.
    expect(files.filter((name) => /\/[0-9a-f]{16}-.*\.sha256$/.test(name)).length).toBeLessThanOrEqual(1)
  }

  /** Phases of a bake, and points between its steps. */
  const POINTS = [
    ...['images', 'direct-compared', 'direct-hashes'],
    ...['ami-claimed', 'ami-dir', 'direct-overlay', 'mount', 'engine', 'prepare', 'install', 'stop', 'clean', 'scan', 'unmount'],
    ...['direct-changed', 'compare', 'ami-baked', 'ami-proven', 'ami-kept', 'ami-recorded', 'ami-published'],
    ...['direct-published', 'direct-head', 'direct-promoted', 'ami-release', 'ami-linked'],
  ]
  test.each(cells(POINTS, 3))('SIGKILL at %s, and again, leaves nothing behind once it is pruned', BAKE, async (point) => {
    await tag(`k-${point}`, point)
    await killed(`k-${point}`, point)
    // A phase of a release that was published meanwhile doesn't come again.
    if (!(await bakedAlready(`k-${point}`))) await killed(`k-${point}`, point)
    await pruned()
    const { image, inputs, story } = await bake(`k-${point}`)
    expect(story).not.toMatch(/is gone|thrown away|it is the first of/)
    expect((await onDisk(image.path, '/etc/bake/manifest.json'))[0]).toContain(inputs)
  })
  async function bakedAlready(release: string): Promise<boolean> {
    const { stdout } = await project.bake(['ami', '--release', release, '--dry-run', '--no-verify', '--json'])
    return (JSON.parse(stdout) as { action: string }).action === 'none'
  }

  test.each(cells(['direct-base', 'base', 'images', 'direct-hashes']))(
    'so does SIGKILL at %s of a base’s first bake',
    BAKE,
    async (point) => {
      await rm(join(project.dir, '.bake/lineages'), { recursive: true })
      await tag(`f-${point}`, `first ${point}`)
      await killed(`f-${point}`, point)
      if (!(await bakedAlready(`f-${point}`))) await killed(`f-${point}`, point)
      await pruned()
      await tag(`g-${point}`, `after ${point}`)
      for (const release of [`f-${point}`, `g-${point}`]) {
        const { image, inputs } = await bake(release)
        expect((await onDisk(image.path, '/etc/bake/manifest.json'))[0]).toContain(inputs)
      }
    },
  )

  test.skipIf(!bootsMachines)('boots, two overlays from the base', { timeout: 1_200_000 }, async () => {
    await tag('boots', 'it boots')
    const result = await project.bake(['ami', '--release', 'boots', '--json'])
    expect(result, result.stderr.slice(-4000)).toMatchObject({ code: 0 })
    expect(JSON.parse(result.stdout)).toMatchObject({ status: 'baked', baker: 'direct', proven: true })
  })
})
