import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { S3Ledger } from '../../src/io/ledger-s3.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import { type BakeOptions, type BakeResult, type RunningBake, runBake, startBake } from './bake.ts'
import { type OwnEngine, startEngine } from './engine.ts'
import { MOTO_REGION, type Moto, startMoto } from './moto.ts'
import { startRegistry, type TestRegistry } from './registry.ts'
import { makeRepo, type RepoFiles, type TestRepo } from './repo.ts'

export interface FleetOptions {
  /** Beside bake.yaml, which is made. */
  files?: RepoFiles
  /** Lines of bake.yaml below `images:`. */
  images?: string
  /** More of bake.yaml, at the top level: `fleet: { shards: 4 }`. */
  yaml?: string
  shards?: number
  /** Each worker has a Docker engine of its own, which outlives it. Else they share this machine's. */
  engines?: boolean
  /** What stands between the fleet and the emulator, such as a proxy that is slow: its address. */
  through?: (endpoint: string) => Promise<string>
}

export interface TestFleet extends AsyncDisposable {
  readonly repo: TestRepo
  /** The checkout: where people run bake. */
  readonly dir: string
  readonly moto: Moto
  readonly registry: TestRegistry
  /** Straight at the emulator. */
  readonly ledger: S3Ledger
  readonly queue: SqsQueue
  readonly env: Record<string, string | undefined>
  readonly bucket: string
  readonly prefix: string
  /** The workers' state directories, by name. */
  readonly home: string
  bake(args: string[], options?: BakeOptions): Promise<BakeResult>
  start(args: string[], options?: BakeOptions): RunningBake
  /** Starts a worker with a state directory of its own and no checkout; the same name later is its next incarnation. */
  worker(name: string, options?: BakeOptions & { args?: string[] }): Promise<RunningBake>
  /** The digest that a tag of an image names. */
  tagged(tag: string, image?: string): Promise<string | undefined>
}

const WEB: RepoFiles = { 'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n', 'web/server.js': 'console.log(1)\n' }

/** A project whose queue and ledger are on AWS, which moto plays over its real protocol, and whose images go to a real registry. It starts no worker. */
export async function makeFleet(options: FleetOptions = {}): Promise<TestFleet> {
  const stack = new AsyncDisposableStack()
  try {
    const moto = stack.use(await startMoto())
    const registry = stack.use(await startRegistry())
    const bucket = await moto.createBucket()
    const prefix = await moto.createQueues({ shards: options.shards ?? 1 })
    const endpoint = (await options.through?.(moto.endpoint)) ?? moto.endpoint
    const repo = stack.use(await makeRepo({ files: options.files ?? WEB }))
    const yaml = [
      'project: shop',
      `repository: ${repo.dir}`,
      `registry: ${registry.host}/shop`,
      `aws: { region: ${MOTO_REGION}, queue: ${prefix}, bucket: ${bucket} }`,
      ...(options.shards === undefined ? [] : [`fleet: { shards: ${options.shards} }`]),
      ...(options.yaml === undefined ? [] : [options.yaml]),
      'images:',
      options.images ?? '  web: { context: web }',
      '',
    ].join('\n')
    await repo.commit({ 'bake.yaml': yaml })
    const home = await mkdtemp(join(tmpdir(), 'bake-fleet-'))
    stack.defer(() => rm(home, { recursive: true, force: true, maxRetries: 5 }))
    const env = { ...moto.env, AWS_ENDPOINT_URL: endpoint }
    const ledger = new S3Ledger({ region: MOTO_REGION, bucket, endpoint: moto.endpoint })
    const queue = await SqsQueue.open({ region: MOTO_REGION, prefix, shards: options.shards ?? 1, endpoint: moto.endpoint })
    stack.defer(() => queue.close())
    const http = new HttpRegistry()
    const engines = new Map<string, OwnEngine>()
    const running = stack.use(new AsyncDisposableStack())
    const engineOf = async (name: string) => {
      const engine = engines.get(name) ?? running.use(await startEngine({ reach: [registry.host] }))
      engines.set(name, engine)
      return engine
    }
    const started = new Set<RunningBake>()
    stack.defer(async () => {
      for (const worker of started) await worker[Symbol.asyncDispose]()
    })
    const owned = stack.move()
    return {
      repo,
      dir: repo.dir,
      moto,
      registry,
      ledger,
      queue,
      env,
      bucket,
      prefix,
      home,
      bake: (args, more = {}) => runBake(args, { cwd: repo.dir, ...more, env: { ...env, ...more.env } }),
      start: (args, more = {}) => startBake(args, { cwd: repo.dir, ...more, env: { ...env, ...more.env } }),
      async worker(name, { args = [], ...more } = {}) {
        const dir = join(home, name)
        await mkdir(dir, { recursive: true })
        await writeFile(join(dir, 'bake.yaml'), yaml)
        const engine = options.engines === true ? { DOCKER_HOST: (await engineOf(name)).host } : {}
        const worker = startBake(['worker', '--name', name, ...args], {
          cwd: dir,
          ...more,
          env: { ...env, ...engine, ...more.env },
        })
        started.add(worker)
        await worker.waitFor('stderr', /is ready/, 60_000)
        return worker
      },
      tagged: async (tag, image = 'web') => (await http.head({ host: registry.host, path: `shop/${image}`, tag }))?.digest,
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  } catch (error) {
    await stack.disposeAsync()
    throw error
  }
}
