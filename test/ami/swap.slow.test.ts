// biome-ignore-all lint/suspicious/noTemplateCurlyInString: scripts
import { describe, expect, test } from 'vitest'
import { canMount } from './disk-root.ts'
import { digest } from './plan.ts'
import { IMAGE, onMachine } from './swap-stubs.ts'

const [A, B, C] = ['a', 'b', 'c'].map(digest) as [string, string, string]
const can = (...images: string[]) => images.map((image) => `echo ${image} >>/run/is/registry\n`).join('')
const sick = (image: string) => `echo ${image} >>/run/is/sick\n`
const ALL = can(IMAGE.web('b'), IMAGE['queue.1']('b'), IMAGE.web('c'))

describe.skipIf(!canMount)('on a machine, as root, swap run', () => {
  test.each<[string, string]>([
    ['no service', ''],
    ['no service but --atomic', '--atomic'],
    ['a service that is not there', `elsewhere=${B}`],
    ['a tag', 'web=v2'],
    ['a short digest', 'web=sha256:abc'],
    ['a digest in capitals', `web=sha256:${'A'.repeat(64)}`],
    ['a line end', `"web=${B}\n"`],
    ['another option', `--force web=${B}`],
    ['an option at the end', `web=${B} --atomic`],
    ['a service twice', `web=${B} web=${C}`],
    ['a path', `../web=${B}`],
    ['a command as the name', `'x[$(touch /etc/hurt)]=${B}'`],
    ['a command as the digest', `'web=$(touch /etc/hurt)'`],
    ['one good word and a bad one', `web=${B} queue.1=x`],
  ])('refuses %s, and nothing is changed', async (_, words) => {
    const { ended, told, stderr, asked, left } = await onMachine(`${ALL}swap run ${words}\n[ ! -e /etc/hurt ] || echo hurt`)
    expect({ ended, told, asked }).toEqual({ ended: [2], told: 'ended with 2\n', asked: [] })
    expect(stderr).toMatch(/^bake: .*\n$/)
    expect(left).toEqual(['swap.lock'])
  })

  test('refuses another verb, and a machine that has no manifest', async () => {
    expect((await onMachine('swap; swap walk')).ended).toEqual([2, 2])
    expect(await onMachine(`rm /etc/bake/manifest.json; swap run web=${B}`)).toMatchObject({ ended: [2], asked: [] })
  })

  test('pulls all, then replaces each, keeps it, and removes what nobody names any more', async () => {
    const { ended, told, lines, asked, kept, tried, images } = await onMachine(
      `${ALL}swap run web=${B} queue.1=${B}\nswap run web=${C} queue.1=${B}`,
    )
    expect(ended).toEqual([0, 0])
    expect(told.split('\n')[0]).toBe(`bake-swap: {"inputs":"${'e'.repeat(64)}"}`)
    const seconds = expect.any(Number)
    expect(lines).toEqual([
      { service: 'web', status: 'swapped', digest: B, before: A, seconds },
      { service: 'queue.1', status: 'swapped', digest: B, before: A, seconds },
      { service: 'web', status: 'swapped', digest: C, before: B, seconds },
      { service: 'queue.1', status: 'unchanged', digest: B, before: B, seconds: 0 },
    ])
    expect(
      asked.filter((line) => / (?:pull|restart|image rm) /.test(line)).map((line) => line.split(' ').slice(1).join(' ')),
    ).toEqual([
      `pull --quiet ${IMAGE.web('b')}`,
      `pull --quiet ${IMAGE['queue.1']('b')}`,
      'restart bake-web.service',
      'restart bake-queue.1.service',
      `pull --quiet ${IMAGE.web('c')}`,
      'restart bake-web.service',
      `image rm ${IMAGE.web('b')}`,
    ])
    expect(kept).toEqual([`queue.1 ${IMAGE['queue.1']('b')}`, `web ${IMAGE.web('c')}`])
    expect(tried).toEqual([])
    expect(images).toContain(IMAGE.web('a'))
  })

  test('of a service that runs its image but is down is no “unchanged”', async () => {
    expect((await onMachine(`echo failed >/run/is/state.web; swap run web=${A}`)).results).toEqual(['web swapped'])
  })

  test('tells the reason in one line of JSON, whatever is in it', async () => {
    const { ended, lines } = await onMachine(
      `${ALL}${sick(IMAGE.web('b'))}printf 'it says "no"\\\\ \\t\\033[31m\\nand grüße\\n' >/run/is/why; swap run web=${B}`,
    )
    expect({ ended, lines }).toMatchObject({
      ended: [1],
      lines: [{ status: 'kept', digest: A, before: A, why: 'it says "no"\\  [31m and grüße' }],
    })
  })

  test('adds what docker or the container said last, where the check knows only that it ended', async () => {
    const { lines } = await onMachine(
      `${ALL}${sick(IMAGE.web('b'))}echo 'its container ended' >/run/is/why; printf 'no database\\nweb: its container ended\\n' >/run/is/journal; swap run web=${B}`,
    )
    expect(lines[0]!.why).toBe('its container ended: no database')
  })

  test('says failed when what ran before isn’t well either', async () => {
    const { ended, lines, kept, tried } = await onMachine(`${ALL}${sick(IMAGE.web('b'))}${sick(IMAGE.web('a'))}swap run web=${B}`)
    expect({ ended, lines }).toMatchObject({ ended: [1], lines: [{ status: 'failed', digest: A, before: A }] })
    expect({ kept, tried }).toEqual({ kept: [], tried: [] })
  })

  test('notices a unit that doesn’t run what it is told to', async () => {
    const { lines } = await onMachine(`${ALL}: >/run/is/deaf; swap run web=${B}`)
    expect(lines[0]).toMatchObject({ status: 'kept', why: expect.stringContaining('template') })
  })

  test('--atomic tries no further service, and keeps none', async () => {
    const script = `${can(IMAGE.web('b'), IMAGE['queue.1']('b'), IMAGE.jobs('b'))}${sick(IMAGE['queue.1']('b'))}`
    const { ended, lines, restarts, kept } = await onMachine(`${script}swap run --atomic web=${B} queue.1=${B} jobs=${B}`)
    expect({ ended, lines }).toMatchObject({
      ended: [1],
      lines: [
        { service: 'web', status: 'kept', digest: A, why: 'service queue.1 was not well' },
        { service: 'queue.1', status: 'kept', digest: A },
        { service: 'jobs', status: 'kept', digest: A, why: 'not tried: queue.1 was not well' },
      ],
    })
    expect({ restarts, kept }).toEqual({ restarts: ['web', 'queue.1', 'queue.1', 'web'], kept: [] })
  })

  describe('after one that was killed', () => {
    const tried = (name: string, image: string) =>
      `mkdir -p /run/bake/swap; echo BAKE_IMAGE=${image} >/run/bake/swap/${name}.env\n`

    test('while it tried an image: the one before runs again, first', async () => {
      const { restarts, stderr, results, kept } = await onMachine(
        `${ALL}${tried('web', IMAGE.web('b'))}systemctl restart bake-web.service; : >/run/asked; swap run queue.1=${B}`,
      )
      expect({ restarts, results, stderr }).toEqual({
        restarts: ['web', 'queue.1'],
        results: ['queue.1 swapped'],
        stderr: 'bake: web: a swap was interrupted: undone first\n',
      })
      expect(kept).toEqual([`queue.1 ${IMAGE['queue.1']('b')}`])
    })

    test('when the new one was kept already: it runs on', async () => {
      const {
        restarts,
        results,
        tried: left,
      } = await onMachine(`${ALL}swap run web=${B}; : >/run/asked; ${tried('web', IMAGE.web('b'))}swap run web=${B}`)
      expect({ restarts, results, left }).toEqual({ restarts: [], results: ['web swapped', 'web unchanged'], left: [] })
    })

    test('of a service that is no longer there', async () => {
      expect(await onMachine(`${tried('gone', IMAGE.web('b'))}swap run web=${A}`)).toMatchObject({ ended: [0], tried: [] })
    })
  })

  test('told to stop: what is being replaced comes to its end, nothing further is tried', async () => {
    const { ended, lines, kept } = await onMachine(
      `${ALL}echo 1 >/run/is/slow; /usr/local/lib/bake/swap run web=${B} queue.1=${B} & pid=$!
      until grep -q 'restart bake-web' /run/asked; do sleep 0.05; done
      kill -TERM $pid; wait $pid || echo "ended with $?"`,
    )
    expect({ ended, lines, kept }).toMatchObject({
      ended: [1],
      lines: [
        { service: 'web', status: 'swapped' },
        { service: 'queue.1', status: 'kept', why: 'the swap was stopped' },
      ],
      kept: [`web ${IMAGE.web('b')}`],
    })
  })

  test('waits while another one runs, for so long, and not once that was killed', async () => {
    const { ended, stderr, tried } = await onMachine(`${ALL}echo 5 >/run/is/slow
      /usr/local/lib/bake/swap run web=${B} >/dev/null & first=$!
      until grep -q 'restart bake-web' /run/asked; do sleep 0.05; done
      BAKE_SWAP_WAIT=1 swap run queue.1=${B}
      kill -9 $first; wait $first || true
      rm /run/is/slow
      swap run queue.1=${B}`)
    expect({ ended, tried }).toEqual({ ended: [75, 0], tried: [] })
    expect(stderr).toContain('bake: another swap runs on this machine: waiting for it\n')
  })
})
