import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { plan, service } from '../ami/plan.ts'
import { type Ran, startInstance, type TestInstance } from './instance.ts'
import { startRegistry, type TestRegistry } from './registry.ts'
import { pushService } from './service-image.ts'

export const WITHIN_SECONDS = 2
export const NOWHERE = `sha256:${'0'.repeat(64)}`
export const INPUTS = 'e'.repeat(64)
export const SWAP = '/usr/local/lib/bake/swap'

export interface SwapLine {
  service: string
  status: string
  digest: string
  before: string
  seconds: number
  why?: string
}

/** An instance with services jobs, and web after it, which run their images `one`. It was told of a record of its stack. */
export interface SwapMachine extends AsyncDisposable {
  readonly registry: TestRegistry
  readonly instance: TestInstance
  /** Digests. `sick` never gets well, `ends` ends at once. */
  readonly web: Record<'one' | 'two' | 'three' | 'sick', string>
  readonly jobs: Record<'one' | 'two' | 'three' | 'ends', string>
  /** `record`: what AWS answers to whoever asks for it; undefined: nothing ever, `gone`: it hangs up. `asked`: how often that was. */
  readonly parameter: { record: string | undefined; asked: number }
  swap(...words: string[]): Promise<{ status: number | null; lines: SwapLine[]; told: string[]; stderr: string }>
  /** A swap of web to `sick`, killed while that is tried. */
  killed(): Promise<void>
  /** What web serves. */
  page(): Promise<string>
  /** A script's lines. */
  said(script: string): Promise<string[]>
  /** What runs: names of containers, and images by the words after the last /. */
  runs(): Promise<Record<string, string>>
  /** What files for units say, and names of those that are in memory. */
  kept(): Promise<string[]>
}

/** What `runs` gives for these. */
export const running = ({ web, jobs }: SwapMachine, w: keyof SwapMachine['web'], j: keyof SwapMachine['jobs']) => ({
  'bake-web': `web@${web[w]}`,
  'bake-jobs': `jobs@${jobs[j]}`,
})

/** Needs root on Linux. */
export async function startSwapMachine(): Promise<SwapMachine> {
  await using undo = new AsyncDisposableStack()
  const registry = undo.use(await startRegistry())
  const push = (name: string, content: string, line?: string) => pushService(registry.host, `shop/${name}`, content, line)
  const of = async (name: string, line?: string) => ({
    one: await push(name, 'one', line),
    two: await push(name, 'two', line),
    three: await push(name, 'three', line),
  })
  const web = { ...(await of('web')), sick: await push('web', 'sick', ':') }
  const jobs = { ...(await of('jobs', ':')), ends: await push('jobs', 'ends', 'exit 7') }
  const parameter: SwapMachine['parameter'] = { record: 'none yet', asked: 0 }
  const aws = createServer((_, response) => {
    parameter.asked++
    if (parameter.record === 'gone') response.destroy()
    else if (parameter.record !== undefined) response.end(JSON.stringify({ Parameter: { Value: parameter.record } }))
  })
  await new Promise<void>((resolve) => aws.listen(0, '127.0.0.1', resolve))
  undo.defer(() => {
    aws.closeAllConnections()
    aws.close()
  })
  const { port } = aws.address() as AddressInfo
  const reference = (image: 'web' | 'jobs', digest: string) => ({ image, repository: `${registry.host}/shop/${image}`, digest })
  const services = [
    service('web', {
      ...{ reference: reference('web', web.one), after: ['jobs'] },
      ports: [{ host: 80, container: 3000, protocol: 'tcp' }],
      health: { http: 'http://127.0.0.1/content', withinSeconds: WITHIN_SECONDS },
    }),
    service('jobs', {
      ...{ reference: reference('jobs', jobs.one), health: { command: ['busybox', 'true'], withinSeconds: WITHIN_SECONDS } },
    }),
  ]
  const credentials = { AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test', AWS_REGION: 'eu-central-1' }
  const instance = undo.use(
    await startInstance({
      plan: plan(services, { inputs: INPUTS }),
      registryPort: Number(registry.host.split(':')[1]),
      reach: [port],
      env: { ...credentials, AWS_ENDPOINT_URL_SSM: `http://127.0.0.1:${port}` },
      userData: '#bake release=v1 swap=/bake/shop/swap/dev-alice\n',
    }),
  )
  const said = async (script: string) => (await instance.run(script)).stdout.trim().split('\n').filter(Boolean)
  const running = undo.move()
  return {
    ...{ registry, instance, web, jobs, parameter },
    swap: async (...words) => readSwap(await instance.run(`${SWAP} run ${words.join(' ')}`)),
    async killed() {
      await instance.run(`${SWAP} run web=${web.sick} >/dev/null 2>&1 & pid=$!
        while ! docker ps --no-trunc | grep -q ${web.sick}; do sleep 0.1; done
        kill -9 $pid`)
    },
    page: async () => (await instance.run('curl --silent --max-time 5 http://127.0.0.1/content')).stdout,
    said,
    async runs() {
      const images = Object.entries(await instance.containers())
      return Object.fromEntries(images.map(([name, image]) => [name, image.split('/').at(-1)!]))
    },
    kept: () => said('cat /var/lib/bake/swap/*.env 2>/dev/null; ls /run/bake/swap 2>/dev/null'),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

export function readSwap({ status, stdout, stderr }: Ran) {
  const [first, ...lines] = stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(/^bake-swap: (\{.*\})$/.exec(line)![1]!) as SwapLine & { inputs?: string })
  if (first?.inputs !== INPUTS) throw new Error(`${status}: ${stdout}${stderr}`)
  return { status, lines, told: lines.map(({ service, status }) => `${service} ${status}`), stderr }
}
