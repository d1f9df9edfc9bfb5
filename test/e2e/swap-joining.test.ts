// biome-ignore-all lint/suspicious/noTemplateCurlyInString: scripts
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { cells } from '../support/cells.ts'
import { INPUTS, NOWHERE, running, type SwapMachine, startSwapMachine } from '../support/swap-machine.ts'

const canRun = process.platform === 'linux' && process.getuid?.() === 0

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

describe.runIf(canRun)('on an instance that starts', () => {
  test('a swap stays, one that was being tried doesn’t', async () => {
    it.parameter.record = 'nothing'
    await it.swap(`jobs=${it.jobs.two}`)
    await it.killed()
    await it.instance.reboot()
    expect(await it.runs()).toEqual(running(it, 'one', 'two'))
    expect(await it.page()).toBe('one')
  })

  test('the images of the record run', async () => {
    await it.swap(`jobs=${it.jobs.two}`)
    it.parameter.record = `bake-swap 1\ninputs ${'1'.repeat(64)} ${INPUTS}\nweb ${it.web.three}\nelsewhere ${it.web.two}\n`
    it.parameter.asked = 0
    await it.instance.reboot()
    expect(it.parameter.asked).toBe(1)
    expect(await it.runs()).toEqual(running(it, 'three', 'one'))
    expect(await it.page()).toBe('three')
  })

  const CASES: [string, string | undefined, RegExp][] = [
    ['that takes too long', undefined, /can't be read: services start with what they ran before/],
    [
      'with an image that can’t be pulled',
      `bake-swap 1\ninputs ${INPUTS}\nweb WEB\njobs ${NOWHERE}\n`,
      /jobs: its recorded image can't be pulled: /,
    ],
    ['that can’t be reached', 'gone', /can't be read: services start with what they ran before/],
    ['for another release', `bake-swap 1\ninputs ${'1'.repeat(64)}\nweb WEB\n`, /is for another release: ignored/],
    ['that no one wrote', '<html>', /is no swap record: ignored/],
  ]
  test.each(cells(CASES))('a record %s counts for nothing', async (_, text, why) => {
    await it.swap(`jobs=${it.jobs.two}`)
    it.parameter.record = text?.replace('WEB', it.web.three)
    const began = Date.now()
    await it.instance.reboot()
    expect(await it.runs()).toEqual(running(it, 'one', 'two'))
    expect(await it.page()).toBe('one')
    expect((await it.said('journalctl _SYSTEMD_UNIT=bake-swap.service')).at(-1)).toMatch(why)
    expect(Date.now() - began).toBeLessThan(20_000)
  })
})
