// biome-ignore-all lint/suspicious/noTemplateCurlyInString: scripts
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { NOWHERE, readSwap, running, SWAP, type SwapMachine, startSwapMachine, WITHIN_SECONDS } from '../support/swap-machine.ts'

const canRun = process.platform === 'linux' && process.getuid?.() === 0
/** Each waits for a machine's services again and again: what other tests see as well is run on request. */
const more = test.runIf(process.env.BAKE_TEST_ALL)

let it: SwapMachine
beforeAll(async () => {
  if (canRun) it = await startSwapMachine()
})
afterAll(async () => await it?.[Symbol.asyncDispose]())
beforeEach(async () => {
  if (!canRun) return
  const back = await it.swap(`web=${it.web.one}`, `jobs=${it.jobs.one}`)
  expect(back.status, JSON.stringify(back)).toBe(0)
})

const startedAt = (name: string) => it.said(`docker inspect --format '{{.State.StartedAt}}' bake-${name}`)
const images = async () => (await it.said("docker image ls --digests --format '{{.Digest}}'")).sort()

describe.runIf(canRun)('on an instance', () => {
  test('an image takes the place of another, whoever comes after it runs on, and the same again is unchanged', async () => {
    const [before] = await startedAt('web')
    const { status, lines } = await it.swap(`jobs=${it.jobs.two}`)
    expect({ status, lines }).toEqual({
      status: 0,
      lines: [{ service: 'jobs', status: 'swapped', digest: it.jobs.two, before: it.jobs.one, seconds: expect.any(Number) }],
    })
    expect(await startedAt('web')).toEqual([before])
    expect(await it.runs()).toEqual(running(it, 'one', 'two'))
    expect(await it.kept()).toEqual([`BAKE_IMAGE=${it.registry.host}/shop/jobs@${it.jobs.two}`])
    const again = await it.swap(`jobs=${it.jobs.two}`, `web=${it.web.two}`)
    expect(again.told).toEqual(['jobs unchanged', 'web swapped'])
    expect(await it.page()).toBe('two')
    expect(await it.said("docker exec bake-web busybox sh -c 'echo $BAKE_IMAGE'")).toEqual([
      `${it.registry.host}/shop/web@${it.web.two}`,
    ])
    expect(await it.said('bake-release | grep swapped')).toEqual([
      `swapped jobs ${it.registry.host}/shop/jobs@${it.jobs.two}`,
      `swapped web ${it.registry.host}/shop/web@${it.web.two}`,
    ])
  })

  more('of former images the baked ones stay, and going back to these needs no registry', async () => {
    await it.swap(`web=${it.web.two}`)
    await it.swap(`web=${it.web.three}`)
    expect(await images()).toEqual([it.web.one, it.web.three, it.jobs.one].sort())
    await it.registry.clearRequests()
    expect((await it.swap(`web=${it.web.one}`)).told).toEqual(['web swapped'])
    expect(await it.registry.requests()).toEqual([])
    expect(await it.kept()).toEqual([])
  })

  test('one that is never healthy: the old one runs again and is well, others go all the same', async () => {
    const { status, lines, told } = await it.swap(`web=${it.web.sick}`, `jobs=${it.jobs.two}`)
    expect({ status, told }).toEqual({ status: 1, told: ['web kept', 'jobs swapped'] })
    expect(lines[0]).toMatchObject({
      digest: it.web.one,
      before: it.web.one,
      why: `not healthy after ${WITHIN_SECONDS} s: it closes the connection without an answer`,
    })
    expect(await it.page()).toBe('one')
    expect(await it.runs()).toEqual(running(it, 'one', 'two'))
    expect(await images()).not.toContain(it.web.sick)
  })

  more('one that ends: the same', async () => {
    const { status, lines } = await it.swap(`jobs=${it.jobs.ends}`)
    expect({ status, lines }).toMatchObject({ status: 1, lines: [{ status: 'kept', why: 'its container ended' }] })
    expect(await it.runs()).toEqual(running(it, 'one', 'one'))
    expect(await it.kept()).toEqual([])
  })

  test('a digest that can’t be pulled: nothing is stopped', async () => {
    const before = [await startedAt('web'), await startedAt('jobs')]
    const { status, lines } = await it.swap(`web=${it.web.two}`, `jobs=${NOWHERE}`)
    expect({ status, lines }).toMatchObject({
      status: 1,
      lines: [
        { service: 'web', status: 'kept', digest: it.web.one, why: "nothing was stopped: the image of jobs can't be pulled" },
        { service: 'jobs', status: 'kept', why: expect.stringMatching(/^its image can't be pulled: .*not found/) },
      ],
    })
    expect([await startedAt('web'), await startedAt('jobs')]).toEqual(before)
  })

  test('--atomic: when one isn’t well all go back', async () => {
    const { status, lines } = await it.swap('--atomic', `jobs=${it.jobs.two}`, `web=${it.web.sick}`)
    expect({ status, lines }).toMatchObject({
      status: 1,
      lines: [
        { service: 'jobs', status: 'kept', digest: it.jobs.one, why: 'service web was not well' },
        { service: 'web', status: 'kept', digest: it.web.one, why: expect.stringMatching(/^not healthy/) },
      ],
    })
    expect(await it.runs()).toEqual(running(it, 'one', 'one'))
    expect(await it.kept()).toEqual([])
  })

  more('--atomic: all that are well stay', async () => {
    expect((await it.swap('--atomic', `jobs=${it.jobs.two}`, `web=${it.web.two}`)).told).toEqual(['jobs swapped', 'web swapped'])
    expect(await it.runs()).toEqual(running(it, 'two', 'two'))
    await it.instance.reboot()
    expect(await it.runs()).toEqual(running(it, 'two', 'two'))
  })

  test('killed in the middle: the next swap undoes it first', async () => {
    await it.killed()
    expect(await it.kept()).toEqual(['web.env'])
    expect(await it.runs()).toEqual(running(it, 'sick', 'one'))
    const { status, told, stderr } = await it.swap(`jobs=${it.jobs.two}`)
    expect({ status, told, stderr }).toEqual({
      status: 0,
      told: ['jobs swapped'],
      stderr: 'bake: web: a swap was interrupted: undone first\n',
    })
    expect(await it.runs()).toEqual(running(it, 'one', 'two'))
    expect(await it.page()).toBe('one')
  })

  test('two at once: the second waits', async () => {
    const [first, second] = await Promise.all([
      it.instance.run(`${SWAP} run web=${it.web.two}`),
      it.instance.run(
        `until [ -e /run/bake/swap/web.env ]; do sleep 0.01; done; ${SWAP} run web=${it.web.two} jobs=${it.jobs.two}`,
      ),
    ])
    expect(readSwap(first).told).toEqual(['web swapped'])
    expect(second.stderr).toContain('bake: another swap runs on this machine: waiting for it\n')
    expect(readSwap(second).told).toEqual(['web unchanged', 'jobs swapped'])
    expect(await it.runs()).toEqual(running(it, 'two', 'two'))
  })
})
