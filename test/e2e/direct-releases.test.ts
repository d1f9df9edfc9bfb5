import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BLOCK_BYTES } from '../../src/ami/direct/blocks.ts'
import { standsOn } from '../../src/qcow2.ts'
import { bakesDirectly } from '../support/bakes-directly.ts'
import { bootsMachines } from '../support/boots-machines.ts'
import { diskContent } from '../support/disk-content.ts'
import { leftBehind } from '../support/left-behind.ts'
import { busybox, machineYaml, makeMachineProject } from '../support/machine-project.ts'
import type { TestProject } from '../support/project.ts'

/** Before the one that drops an image. */
const RELEASES = process.env.BAKE_TEST_ALL ? 10 : 3
const MIB = 1024 ** 2
const PAGE = 4096
/** Of a line's change: the bar. */
const MOST_BLOCKS = 100
const MARK = Buffer.from(`bake-dropped-${randomBytes(8).toString('hex')}`)
/** What an image has that is dropped: each page begins with the mark, and no two are the same. */
const PAGES = 1024
const content = () => Buffer.concat(Array.from({ length: PAGES }, () => Buffer.concat([MARK, randomBytes(PAGE - MARK.length)])))

const WEB = '    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/", within: 120s } }\n'
const BOTH = `${WEB}    dropped: { image: dropped, command: ["busybox", "sleep", "1000000"], health: { within: 5m } }\n`

interface Release {
  path: string
  /** That differ from the one before. */
  blocks: number
  story: string
}

describe.skipIf(!bakesDirectly)(`${RELEASES} releases, each a small change, and one that drops an image`, () => {
  let project: TestProject
  const releases: Release[] = []
  beforeAll(async () => {
    project = await makeMachineProject(WEB, {
      files: {
        'dropped/Dockerfile': 'FROM scratch\nCOPY busybox /bin/\nCOPY content /\nENV PATH=/bin\n',
        'dropped/busybox': await busybox(),
        'dropped/content': { executable: content() },
      },
    })
    project.env.BAKE_HOST_LINGER_MS = '600000'
    await project.repo.commit({ 'bake.yaml': await machineYaml({ services: BOTH, images: ['web', 'dropped'] }) })
  }, 900_000)
  afterAll(() => project?.[Symbol.asyncDispose]())

  async function release(): Promise<void> {
    const name = `v${releases.length + 1}`
    await project.repo.git('tag', name)
    const { code, stdout, stderr } = await project.bake(['ami', '--release', name, '--no-verify', '--json'])
    expect(code, stderr.slice(-4000)).toBe(0)
    const { status, baker, image } = JSON.parse(stdout) as { status: string; baker: string; image: { path: string } }
    expect({ status, baker }).toEqual({ status: 'baked', baker: 'direct' })
    releases.push({ path: image.path, blocks: Number(/(\d+) blocks changed/.exec(stderr)?.[1]), story: stderr })
  }
  const look = (at: number) => diskContent(releases.at(at)!.path, join(project.dir, '.bake/flat.raw'))
  /** Digests of the images that a disk's engine has, and those that its manifest names. */
  async function images(at: number): Promise<{ has: string[]; named: string[]; used: number }> {
    await using disk = await look(at)
    const digests = (text: string) => [...new Set(text.match(/sha256:[0-9a-f]{64}/g))]
    const known = JSON.parse(await disk.file('/var/lib/docker/image/overlay2/repositories.json')) as {
      Repositories: Record<string, Record<string, string>>
    }
    const has = Object.values(known.Repositories).flatMap((names) => Object.keys(names).flatMap(digests))
    const manifest = JSON.parse(await disk.file('/etc/bake/manifest.json')) as { images: { digest: string }[] }
    return { has: has.sort(), named: manifest.images.map(({ digest }) => digest).sort(), used: await disk.used() }
  }

  async function marks(): Promise<number[]> {
    await using disk = await look(-1)
    return await disk.find(MARK)
  }

  test('each stands on the one before and holds what changed, and the disk doesn’t grow', { timeout: 900_000 }, async () => {
    await release()
    for (let n = 2; n <= RELEASES; n++) {
      await project.repo.commit({ 'web/index.html': `page ${n}\n` })
      await release()
    }
    for (const [at, { path, blocks, story }] of releases.entries()) {
      // And the base below all of them.
      expect(await standsOn(path)).toEqual([
        ...releases
          .slice(0, at)
          .map((below) => below.path)
          .reverse(),
        expect.stringMatching(/lineages\/\w+\/base\.raw$/),
      ])
      expect(blocks).toBeGreaterThan(0)
      if (at === 0) continue
      expect(story).toContain(`from the disk of release v${at}, ${at} bakes from the base`)
      expect(blocks).toBeLessThanOrEqual(MOST_BLOCKS)
      // What a file holds besides tells where its blocks are.
      expect((await stat(path)).blocks * 512).toBeLessThan(blocks * BLOCK_BYTES + 4 * MIB)
    }
    const [first, last] = [await images(0), await images(-1)]
    for (const { has, named } of [first, last]) expect(has).toEqual(named)
    // The pages that changed, and what the engine notes of images.
    expect(last.used - first.used).toBeLessThan(MIB + RELEASES * 256 * 1024)
  })

  test('an image that no service has any more is gone from the engine’s store and from the disk', {
    timeout: 300_000,
  }, async () => {
    const before = await images(-1)
    const places = await marks()
    expect(places.length).toBeGreaterThanOrEqual(PAGES)
    await project.repo.commit({ 'bake.yaml': await machineYaml({ services: WEB }) })
    await release()
    expect(await standsOn(releases.at(-1)!.path)).toHaveLength(RELEASES + 1)
    const after = await images(-1)
    expect(before.named).toHaveLength(2)
    expect(after.named).toHaveLength(1)
    expect(after.has).toEqual(after.named)
    expect(before.used - after.used).toBeGreaterThan(PAGES * PAGE)
    await using disk = await look(-1)
    expect(await disk.find(MARK)).toEqual([])
    const pages = await Promise.all(places.map((at) => disk.read(at, PAGE)))
    // But for what was written there after it.
    expect(pages.filter((page) => page.equals(Buffer.alloc(PAGE))).length).toBeGreaterThan(0.9 * places.length)
    expect(await leftBehind(project.dir)).toEqual([])
  })

  test.skipIf(!bootsMachines).each([...Array(RELEASES + 1).keys()].map((n) => `v${n + 1}`))(
    '%s boots without a network',
    { timeout: 1_200_000 },
    async (name) => {
      const { code, stderr } = await project.bake(['verify', name, '--json'])
      expect(code, stderr.slice(-4000)).toBe(0)
    },
  )
})
