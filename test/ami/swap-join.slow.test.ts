import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import { canMount } from './disk-root.ts'
import { digest } from './plan.ts'
import { ECR, IMAGE, onMachine } from './swap-stubs.ts'

const [A, B] = [digest('a'), digest('b')]
const OURS = 'e'.repeat(64)
const NAME = '/bake/shop/swap/dev-alice'
const RECORD = `bake-swap 1\ninputs ${'1'.repeat(64)} ${OURS}\nweb ${B}\nqueue.1 ${B}\n`
const PULLABLE = `for image in ${IMAGE.web('b')} ${IMAGE['queue.1']('b')} ${IMAGE.jobs('b')}; do echo $image >>/run/is/registry; done\n`
const KEPT = 'mkdir -p /var/lib/bake/swap\n'
const CREDENTIALS = 'export AWS_ACCESS_KEY_ID=AKIDEXAMPLE AWS_SECRET_ACCESS_KEY=secret AWS_REGION=eu-central-1\n'

interface Asked {
  target: string
  body: object
  authorization: string
}

/** AWS in a test: what it was asked, and what a machine of which it is a neighbour did. */
async function beside(listener: RequestListener, script: string, services?: Parameters<typeof onMachine>[1]) {
  const asked: Asked[] = []
  const server = createServer(async (request: IncomingMessage, response) => {
    const { 'x-amz-target': target, authorization } = request.headers
    asked.push({ target: String(target), body: JSON.parse(await text(request)), authorization: String(authorization) })
    listener(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  try {
    const endpoints = `export AWS_ENDPOINT_URL_SSM=${url} AWS_ENDPOINT_URL_ECR=${url}\n`
    return { aws: asked, ...(await onMachine(`${CREDENTIALS}${endpoints}${PULLABLE}${script}`, services)) }
  } finally {
    server.closeAllConnections()
    server.close()
  }
}
const saying =
  (value: string): RequestListener =>
  (_, response) =>
    response.end(JSON.stringify({ Parameter: { Name: NAME, Value: value } }))
const JOIN = `echo ${NAME} >/run/bake/swap-record\nswap join`
const SERVICES = ['web', 'queue.1'] as (keyof typeof IMAGE)[]

describe.skipIf(!canMount)('on a machine, as root, swap join', () => {
  test('makes units run what the record names, and what it doesn’t name is what was baked', async () => {
    const record = `bake-swap 1\ninputs ${OURS}\nweb ${B}\nother ${B}\n`
    const before = `${KEPT}echo BAKE_IMAGE=${IMAGE['queue.1']('c')} >/var/lib/bake/swap/queue.1.env; echo ${IMAGE['queue.1']('c')} >>/run/is/images\n`
    const { aws, ended, kept, restarts, images, stderr } = await beside(saying(record), before + JOIN, SERVICES)
    expect(aws).toMatchObject([{ target: 'AmazonSSM.GetParameter', body: { Name: NAME } }])
    expect({ ended, kept, restarts }).toEqual({ ended: [0], kept: [`web ${IMAGE.web('b')}`], restarts: [] })
    expect(images).not.toContain(IMAGE['queue.1']('c'))
    expect(stderr).toBe(`bake: web: ${IMAGE.web('b')}, as recorded\nbake: queue.1: ${IMAGE['queue.1']('a')}, as recorded\n`)
  })

  test('asks nobody when the instance was told of no record, or of one that bake doesn’t write', async () => {
    for (const script of [
      'swap join',
      "echo '/bake/$(id)' >/run/bake/swap-record; swap join",
      'echo /other/x >/run/bake/swap-record; swap join',
    ]) {
      expect(await beside(saying(RECORD), script, SERVICES)).toMatchObject({
        aws: [],
        ended: [0],
        asked: [],
        kept: [],
        stderr: '',
      })
    }
  })

  test.each<[string, string, RegExp]>([
    ['nothing', '', /is no swap record/],
    ['another version', RECORD.replace('bake-swap 1', 'bake-swap 2'), /is no swap record/],
    ['no inputs', `bake-swap 1\nweb ${B}\n`, /is no swap record/],
    ['inputs of another kind', `bake-swap 1\ninputs v2\nweb ${B}\n`, /is no swap record/],
    ['a tag', `${RECORD}jobs latest\n`, /is no swap record/],
    ['a command', `${RECORD}x[$(touch /etc/hurt)] ${B}\n`, /is no swap record/],
    ['a service twice', `${RECORD}web ${B}\n`, /is no swap record/],
    ['an empty line', `${RECORD}\n\nother ${B}\n`, /is no swap record/],
    ['carriage returns', RECORD.replaceAll('\n', '\r\n'), /is no swap record/],
    ['a NUL', RECORD.replace('web', 'we\0b'), /is no swap record/],
    ['more than 8 KiB', `${RECORD}${Array.from({ length: 120 }, (_, n) => `s${n} ${B}\n`).join('')}`, /is no swap record/],
    ['another release', RECORD.replace(OURS, '2'.repeat(64)), /is for another release: ignored/],
  ])('leaves everything as it is for a record with %s', async (_, record, why) => {
    const before = `${KEPT}echo BAKE_IMAGE=${IMAGE.web('a')} >/var/lib/bake/swap/web.env\n`
    const { ended, kept, asked, stderr } = await beside(saying(record), `${before}${JOIN}; [ ! -e /etc/hurt ]`, SERVICES)
    expect({ ended, kept, asked }).toEqual({ ended: [0], kept: [`web ${IMAGE.web('a')}`], asked: [] })
    expect(stderr).toMatch(new RegExp(`^bake: ${NAME} ${why.source}.*\n$`))
  })

  test.each<[string, RequestListener, RegExp]>([
    [
      'refuses',
      (_, response) => response.writeHead(400).end('{"__type":"AccessDeniedException","message":"no"}'),
      /AccessDeniedException: no/,
    ],
    ['answers garbage', (_, response) => response.end('{"Parameter": 3}'), /something else than what was asked for/],
    ['is silent', () => {}, /can't be read/],
    [
      'says a word now and then',
      (_, response) => void setInterval(() => response.writable && response.write(' '), 300).unref(),
      /can't be read/,
    ],
  ])('goes on without the record within the time when AWS %s', async (_, listener, why) => {
    const script = `began=$(date +%s%N); ${JOIN}; echo "took $((($(date +%s%N) - began) / 1000000))"`
    const { ended, kept, told, stderr } = await beside(listener, script, SERVICES)
    expect({ ended, kept }).toEqual({ ended: [0], kept: [] })
    expect(stderr).toMatch(why)
    expect(stderr).toContain(`bake: ${NAME} can't be read: services start with what they ran before\n`)
    expect(Number(/^took (\d+)$/m.exec(told)![1])).toBeLessThan(7000)
  })

  test('goes on without it when nobody listens there, or there is no Python', async () => {
    const gone = await onMachine(`${CREDENTIALS}export AWS_ENDPOINT_URL_SSM=http://127.0.0.1:9\n${JOIN}`, SERVICES)
    expect(gone).toMatchObject({ ended: [0], kept: [], stderr: expect.stringContaining("can't be read") })
    const script = 'mkdir /run/few; ln -s /usr/bin/* /run/few; rm /run/few/python3*; PATH=/run/stubs:/run/few\n'
    expect(await onMachine(script + JOIN, SERVICES)).toMatchObject({
      ended: [0],
      stderr: `bake: ${NAME} is not asked for: there is no python3 here\n`,
    })
  })

  test('keeps none when one can’t be pulled', async () => {
    const { ended, kept, stderr } = await beside(
      saying(RECORD),
      `: >/run/is/registry; echo ${IMAGE.web('b')} >/run/is/registry; ${JOIN}`,
      SERVICES,
    )
    expect({ ended, kept }).toEqual({ ended: [0], kept: [] })
    expect(stderr).toMatch(
      /^bake: queue\.1: its recorded image can't be pulled: .*not found: services start with what they ran before\n$/,
    )
  })
})

describe.skipIf(!canMount)('a registry of ECR', () => {
  const TOKEN = Buffer.from('AWS:a password').toString('base64')
  const giving: RequestListener = (_, response) =>
    response.end(JSON.stringify({ authorizationData: [{ authorizationToken: TOKEN }] }))

  test('is given a login of the instance’s role, which stays nowhere', async () => {
    const { aws, ended, logins, asked, left } = await beside(giving, `swap run jobs=${B}`)
    expect(aws).toEqual([
      {
        target: 'AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken',
        body: {},
        authorization: expect.stringMatching(/\/eu-central-1\/ecr\/aws4_request/),
      },
    ])
    expect({ ended, logins }).toEqual({ ended: [0], logins: [JSON.stringify({ auths: { [ECR]: { auth: TOKEN } } })] })
    expect(asked).toContain(`docker --config /run/bake/swap.logins/${ECR} pull --quiet ${IMAGE.jobs('b')}`)
    expect(left).toEqual(['swap', 'swap.lock'])
  })

  test('is asked without one where the role may have none', async () => {
    const refusing: RequestListener = (_, response) =>
      response.writeHead(400).end('{"__type":"AccessDeniedException","message":"no"}')
    const { ended, asked, stderr } = await beside(refusing, `swap run jobs=${B}`)
    expect(ended).toEqual([0])
    expect(asked).toContain(`docker pull --quiet ${IMAGE.jobs('b')}`)
    expect(stderr).toContain(`no login for ${ECR}: pulling goes on without`)
  })

  test('is asked for nothing when the image is there', async () => {
    const { aws, results } = await beside(giving, `swap run jobs=${A}`)
    expect({ aws, results }).toEqual({ aws: [], results: ['jobs unchanged'] })
  })
})
