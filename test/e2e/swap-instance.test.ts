// biome-ignore-all lint/suspicious/noTemplateCurlyInString: scripts
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { plan, service } from '../ami/plan.ts'
import { type Ran, startInstance, type TestInstance } from '../support/instance.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pushService } from '../support/service-image.ts'

const canRun = process.platform === 'linux' && process.getuid?.() === 0
/** A machine boots in a second or two here, and each health check is waited for: what others see as well is run on request. */
const more = test.runIf(process.env.BAKE_TEST_ALL)
const WITHIN_SECONDS = 2
const NOWHERE = `sha256:${'0'.repeat(64)}`
const INPUTS = 'e'.repeat(64)
const SWAP = '/usr/local/lib/bake/swap'

let registry: TestRegistry
let instance: TestInstance
let aws: Server
/** What AWS answers to whoever asks for the record; undefined: nothing. */
let record: string | undefined = ''
let asked = 0
const web: Record<string, string> = {}
const jobs: Record<string, string> = {}

beforeAll(async () => {
  if (!canRun) return
  registry = await startRegistry()
  for (const name of ['one', 'two', 'three']) {
    web[name] = await pushService(registry.host, 'shop/web', name)
    jobs[name] = await pushService(registry.host, 'shop/jobs', name, ':')
  }
  web.sick = await pushService(registry.host, 'shop/web', 'sick', ':')
  jobs.ends = await pushService(registry.host, 'shop/jobs', 'ends', 'exit 7')
  const image = (name: string, digest: string) => ({
    reference: { image: name, repository: `${registry.host}/shop/${name}`, digest },
  })
  const services = [
    service('web', {
      ...image('web', web.one!),
      ...{ after: ['jobs'], ports: [{ host: 80, container: 3000, protocol: 'tcp' }] },
      health: { http: 'http://127.0.0.1/content', withinSeconds: WITHIN_SECONDS },
    }),
    service('jobs', { ...image('jobs', jobs.one!), health: { command: ['busybox', 'true'], withinSeconds: WITHIN_SECONDS } }),
  ]
  aws = createServer((_, response) => {
    asked++
    if (record === 'GONE') response.destroy()
    else if (record !== undefined) response.end(JSON.stringify({ Parameter: { Value: record } }))
  })
  await new Promise<void>((resolve) => aws.listen(0, '127.0.0.1', resolve))
  const { port } = aws.address() as AddressInfo
  const credentials = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_REGION: 'eu-central-1' }
  instance = await startInstance({
    plan: plan(services),
    registryPort: Number(registry.host.split(':')[1]),
    reach: [port],
    env: { ...credentials, AWS_ENDPOINT_URL_SSM: `http://127.0.0.1:${port}` },
    userData: '#bake release=v1 swap=/bake/shop/swap/dev-alice\n',
  })
})
afterAll(async () => {
  await instance?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
  aws?.closeAllConnections()
  aws?.close()
})

interface Line {
  service: string
  status: string
  digest: string
  before: string
  seconds: number
  why?: string
}
function read({ status, stdout, stderr }: Ran) {
  const [first, ...lines] = stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(/^bake-swap: (\{.*\})$/.exec(line)![1]!) as Line & { inputs?: string })
  expect(first, stderr).toEqual({ inputs: INPUTS })
  return { status, lines, told: lines.map(({ service, status }) => `${service} ${status}`), stderr }
}
const swap = async (...words: string[]) => read(await instance.run(`${SWAP} run ${words.join(' ')}`))
const page = async () => (await instance.run('curl --silent --max-time 5 http://127.0.0.1/content')).stdout
const said = async (script: string) => (await instance.run(script)).stdout.trim().split('\n').filter(Boolean)
/** What runs, by the words after the last /. */
const runs = async () =>
  Object.fromEntries(Object.entries(await instance.containers()).map(([name, image]) => [name, image.split('/').at(-1)]))
const RUNS = (w: string, j: string) => ({ 'bake-web': `web@${web[w]}`, 'bake-jobs': `jobs@${jobs[j]}` })
const kept = () => said('cat /var/lib/bake/swap/*.env 2>/dev/null; ls /run/bake/swap 2>/dev/null')
const startedAt = (name: string) => said(`docker inspect --format '{{.State.StartedAt}}' bake-${name}`)
const images = async () => (await said("docker image ls --digests --format '{{.Digest}}'")).sort()

/** A swap to what is never healthy, while that is tried. */
const killed = () =>
  instance.run(`${SWAP} run web=${web.sick} >/dev/null 2>&1 & pid=$!
    while ! docker ps --no-trunc | grep -q ${web.sick}; do sleep 0.1; done
    kill -9 $pid`)

describe.runIf(canRun)('on an instance', () => {
  beforeEach(async () => {
    const back = await swap(`web=${web.one}`, `jobs=${jobs.one}`)
    expect(back.status, JSON.stringify(back)).toBe(0)
  })

  test('an image takes the place of another, whoever comes after it runs on, and the same again is unchanged', async () => {
    const [before] = await startedAt('web')
    const { status, lines } = await swap(`jobs=${jobs.two}`)
    expect({ status, lines }).toEqual({
      status: 0,
      lines: [{ service: 'jobs', status: 'swapped', digest: jobs.two, before: jobs.one, seconds: expect.any(Number) }],
    })
    expect(await startedAt('web')).toEqual([before])
    expect(await runs()).toEqual(RUNS('one', 'two'))
    expect(await kept()).toEqual([`BAKE_IMAGE=${registry.host}/shop/jobs@${jobs.two}`])
    const again = await swap(`jobs=${jobs.two}`, `web=${web.two}`)
    expect(again.told).toEqual(['jobs unchanged', 'web swapped'])
    expect(await page()).toBe('two')
    expect(await said("docker exec bake-web busybox sh -c 'echo $BAKE_IMAGE'")).toEqual([`${registry.host}/shop/web@${web.two}`])
    expect(await said('bake-release | grep swapped')).toEqual([
      `swapped jobs ${registry.host}/shop/jobs@${jobs.two}`,
      `swapped web ${registry.host}/shop/web@${web.two}`,
    ])
  })

  more('of former images the baked ones stay, and going back to these needs no registry', async () => {
    await swap(`web=${web.two}`)
    await swap(`web=${web.three}`)
    expect(await images()).toEqual([web.one, web.three, jobs.one].sort())
    await registry.clearRequests()
    expect((await swap(`web=${web.one}`)).told).toEqual(['web swapped'])
    expect(await registry.requests()).toEqual([])
    expect(await kept()).toEqual([])
  })

  test('one that is never healthy: the old one runs again and is well, others go all the same', async () => {
    const { status, lines, told } = await swap(`web=${web.sick}`, `jobs=${jobs.two}`)
    expect({ status, told }).toEqual({ status: 1, told: ['web kept', 'jobs swapped'] })
    expect(lines[0]).toMatchObject({
      digest: web.one,
      before: web.one,
      why: `not healthy after ${WITHIN_SECONDS} s: it closes the connection without an answer`,
    })
    expect(await page()).toBe('one')
    expect(await runs()).toEqual(RUNS('one', 'two'))
    expect(await images()).not.toContain(web.sick)
  })

  more('one that ends: the same', async () => {
    const { status, lines } = await swap(`jobs=${jobs.ends}`)
    expect({ status, lines }).toMatchObject({ status: 1, lines: [{ status: 'kept', why: 'its container ended' }] })
    expect(await runs()).toEqual(RUNS('one', 'one'))
    expect(await kept()).toEqual([])
  })

  test('a digest that can’t be pulled: nothing is stopped', async () => {
    const before = [await startedAt('web'), await startedAt('jobs')]
    const { status, lines } = await swap(`web=${web.two}`, `jobs=${NOWHERE}`)
    expect({ status, lines }).toMatchObject({
      status: 1,
      lines: [
        { service: 'web', status: 'kept', digest: web.one, why: "nothing was stopped: the image of jobs can't be pulled" },
        { service: 'jobs', status: 'kept', why: expect.stringMatching(/^its image can't be pulled: .*not found/) },
      ],
    })
    expect([await startedAt('web'), await startedAt('jobs')]).toEqual(before)
  })

  test('--atomic: when one isn’t well all go back', async () => {
    const { status, lines } = await swap('--atomic', `jobs=${jobs.two}`, `web=${web.sick}`)
    expect({ status, lines }).toMatchObject({
      status: 1,
      lines: [
        { service: 'jobs', status: 'kept', digest: jobs.one, why: 'service web was not well' },
        { service: 'web', status: 'kept', digest: web.one, why: expect.stringMatching(/^not healthy/) },
      ],
    })
    expect(await runs()).toEqual(RUNS('one', 'one'))
    expect(await kept()).toEqual([])
  })

  more('--atomic: all that are well stay', async () => {
    expect((await swap('--atomic', `jobs=${jobs.two}`, `web=${web.two}`)).told).toEqual(['jobs swapped', 'web swapped'])
    expect(await runs()).toEqual(RUNS('two', 'two'))
    await instance.reboot()
    expect(await runs()).toEqual(RUNS('two', 'two'))
  })

  test('killed in the middle: the next swap undoes it first', async () => {
    await killed()
    expect(await kept()).toEqual(['web.env'])
    expect(await runs()).toEqual(RUNS('sick', 'one'))
    const { status, told, stderr } = await swap(`jobs=${jobs.two}`)
    expect({ status, told, stderr }).toEqual({
      status: 0,
      told: ['jobs swapped'],
      stderr: 'bake: web: a swap was interrupted: undone first\n',
    })
    expect(await runs()).toEqual(RUNS('one', 'two'))
    expect(await page()).toBe('one')
  })

  test('two at once: the second is refused', async () => {
    const [first, second] = await Promise.all([
      instance.run(`${SWAP} run web=${web.two}`),
      instance.run(`until [ -e /run/bake/swap/web.env ]; do sleep 0.01; done; ${SWAP} run jobs=${jobs.two}`),
    ])
    expect(read(first).told).toEqual(['web swapped'])
    expect(second).toEqual({ status: 75, stdout: '', stderr: 'bake: another swap runs on this machine\n' })
    expect(await runs()).toEqual(RUNS('two', 'one'))
  })

  describe('that starts again', () => {
    test('a swap stays, one that was being tried doesn’t', async () => {
      record = 'nothing'
      await swap(`jobs=${jobs.two}`)
      await killed()
      await instance.reboot()
      expect(await runs()).toEqual(RUNS('one', 'two'))
      expect(await page()).toBe('one')
    })

    test('the images of the record run', async () => {
      await swap(`jobs=${jobs.two}`)
      record = `bake-swap 1\ninputs ${'1'.repeat(64)} ${INPUTS}\nweb ${web.three}\nelsewhere ${web.two}\n`
      asked = 0
      await instance.reboot()
      expect(asked).toBe(1)
      expect(await runs()).toEqual(RUNS('three', 'one'))
      expect(await page()).toBe('three')
    })

    const CASES: [string, string | undefined, RegExp][] = [
      ['that takes too long', undefined, /can't be read: services start with what they ran before/],
      [
        'with an image that can’t be pulled',
        `bake-swap 1\ninputs ${INPUTS}\nweb WEB\njobs ${NOWHERE}\n`,
        /jobs: its recorded image can't be pulled: /,
      ],
      ['that can’t be reached', 'GONE', /can't be read: services start with what they ran before/],
      ['for another release', `bake-swap 1\ninputs ${'1'.repeat(64)}\nweb WEB\n`, /is for another release: ignored/],
      ['that no one wrote', '<html>', /is no swap record: ignored/],
    ]
    test.each(process.env.BAKE_TEST_ALL ? CASES : CASES.slice(0, 1))('a record %s counts for nothing', async (_, text, why) => {
      await swap(`jobs=${jobs.two}`)
      record = text?.replace('WEB', web.three!)
      const began = Date.now()
      await instance.reboot()
      expect(await runs()).toEqual(RUNS('one', 'two'))
      expect(await page()).toBe('one')
      expect((await said('journalctl _SYSTEMD_UNIT=bake-swap.service')).at(-1)).toMatch(why)
      expect(Date.now() - began).toBeLessThan(20_000)
    })
  })
})
