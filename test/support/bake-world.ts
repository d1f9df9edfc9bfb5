import { existsSync } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { BakeAsk } from '../../src/ami/bake.ts'
import type { EnsuredImage } from '../../src/ami/images.ts'
import type { Baker, MachineEvent, MachinePlan, Prover, Rendered } from '../../src/ami/machine.ts'
import { diskShelf } from '../../src/ami/shelf-disk.ts'
import type { BakeWorld } from '../../src/ami/world.ts'
import { parseConfig } from '../../src/config.ts'
import { failed } from '../../src/errors.ts'
import { isAlive, processStart } from '../../src/io/child-record.ts'
import { Checkout } from '../../src/io/git.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { rebaseOverlay } from '../../src/io/qemu-img.ts'
import { HttpRegistry } from '../../src/io/registry-http.ts'
import { sha256 } from '../../src/names.ts'
import { pushImage } from './registry-push.ts'
import type { RepoFiles } from './repo.ts'

/** A project with a machine: one service, on a disk that is a file of any content. */
export const MACHINE_FILES: RepoFiles = {
  'bake.yaml': `project: shop
images:
  web: { context: web }
machine:
  base: { disk: base.raw }
  services:
    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/" } }
`,
  'web/Dockerfile': 'FROM scratch\nCOPY content /\n',
  'web/content': 'one\n',
}

export const ASK: BakeAsk = { release: 'v1', verify: true, rebake: false, keepFailed: false }

export interface TestWorldOptions {
  /** The repository with bake.yaml; the state directory is `.bake` in it. */
  dir: string
  /** `host:port` of a registry that takes pushes. */
  registry: string
  leaseMs?: number
  signal?: AbortSignal
}

export interface TestWorld extends BakeWorld, AsyncDisposable {
  /** Plans that were baked, and proven. */
  readonly baked: MachinePlan[]
  readonly proven: MachinePlan[]
  readonly told: MachineEvent[]
  /** What the baker does before it writes its disk. */
  before: (plan: MachinePlan) => Promise<void>
  /** What the prover does before it says yes. */
  proving: () => Promise<void>
}

/**
 * Everything real but what takes a virtual machine: git, ledger, registry and files are what they are in life. Images are pushed without an engine, the baker
 * writes a small file and the prover looks whether it is there.
 */
export async function makeBakeWorld({ dir, registry, leaseMs = 20_000, signal }: TestWorldOptions): Promise<TestWorld> {
  const checkout = await Checkout.open(dir)
  const stateDir = join(dir, '.bake')
  const disks = diskShelf(stateDir, rebaseOverlay)
  const client = new HttpRegistry({ credentials: async () => undefined })
  const world: TestWorld = {
    baked: [],
    proven: [],
    told: [],
    before: async () => {},
    proving: async () => {},
    ledger: new DirectoryLedger(join(stateDir, 'ledger')),
    stateDir,
    commits: checkout,
    objects: checkout.objects,
    configPath: 'bake.yaml',
    parseConfig,
    defaultPlatform: 'linux/amd64',
    images: pushingImages(checkout, registry),
    registry: async () => client,
    async base(definition) {
      if (!('disk' in definition.base)) throw new Error('a disk was expected')
      const path = join(dir, definition.base.disk)
      const bytes = await readFile(path)
      const { size } = await stat(path)
      return {
        ...{ kind: 'disk', path, format: 'raw', sha256: sha256(bytes), virtualBytes: 20e9 + size },
        ...{ freeBytes: 10e9, architecture: 'amd64', firmware: 'bios' },
      } as const
    },
    render: async (plan) => rendered(plan),
    baker: async () => fileBaker(world),
    prover: async () => lookingProver(world),
    shelf: async () => disks,
    has: (it) => disks.has(it),
    by: `ann@${hostname()}`,
    process: { host: hostname(), pid: process.pid, start: processStart(process.pid)! },
    ended: ({ host, pid, start }) => host === hostname() && !isAlive(pid, start),
    leaseMs,
    pollMs: 10,
    signal: signal ?? new AbortController().signal,
    tell: (event) => void world.told.push(event),
    [Symbol.asyncDispose]: () => checkout.close(),
  }
  return world
}

const rendered = ({ services, inputs }: Pick<MachinePlan, 'services' | 'inputs'>): Rendered => ({
  files: [
    { path: '/etc/bake/manifest.json', text: JSON.stringify({ inputs }), mode: 0o644 },
    ...services.map(({ name, reference, ports }) => ({
      path: `/etc/systemd/system/bake-${name}.service`,
      text: `${reference.repository}@${reference.digest} ${JSON.stringify(ports)}`,
      mode: 0o644,
    })),
  ],
  steps: [{ path: 'steps/prepare.sh', text: `room ${services.map(({ reference }) => reference.sizeBytes)}\n`, mode: 0o755 }],
  proof: '',
})

/** Images whose content is the file `content` of their context. */
function pushingImages(checkout: Checkout, registry: string): BakeWorld['images'] {
  const known = new Map<string, string>()
  const published = async (commit: string, names: string[]): Promise<EnsuredImage[]> =>
    names.map((image) => {
      const reference = known.get(`${commit} ${image}`)
      return { image, ...(reference !== undefined && { reference }) }
    })
  return {
    published,
    async ensure(commit, names, before) {
      await before()
      for (const image of names) {
        const bytes = await checkout.objects.file(commit, `${image}/content`)
        if (!bytes)
          return [{ image, build: 'ybr15gj57-3fgtss', error: { code: 'build_failed', message: 'COPY content /', exit: 3 } }]
        const platform = await checkout.objects.file(commit, `${image}/platform`)
        const platforms = Buffer.from(platform ?? 'linux/amd64')
          .toString('utf8')
          .trim()
          .split(',')
        const content = Buffer.from(bytes).toString('utf8')
        const digest = await pushImage(registry, `shop/${image}`, `sha-${commit}`, { content, platforms })
        known.set(`${commit} ${image}`, `${registry}/shop/${image}@${digest}`)
      }
      return published(commit, names)
    },
  }
}

/** Its disk says what it was baked from; two bakes of the same inputs never make the same bytes. */
const fileBaker = (world: TestWorld): Baker => ({
  name: 'packer',
  async prevalidate() {},
  async bake(plan, { dir, tell, signal }) {
    world.baked.push(plan)
    const path = join(dir, 'disk.qcow2')
    tell({ type: 'phase', phase: 'install', state: 'started', t: Date.now() })
    tell({ type: 'line', phase: 'install', text: `installing ${plan.services.length} services`, t: Date.now() })
    await writeFile(path, `${JSON.stringify(plan.rendered)}\n${crypto.randomUUID()}\n`)
    await world.before(plan)
    signal.throwIfAborted()
    tell({ type: 'phase', phase: 'install', state: 'done', t: Date.now(), seconds: 0.1 })
    return { kind: 'disk', path, format: 'qcow2', sizeBytes: (await stat(path)).size }
  },
})

const lookingProver = (world: TestWorld): Prover => ({
  async prove(baked, plan) {
    world.proven.push(plan)
    await world.proving()
    if (baked.kind !== 'disk' || !existsSync(baked.path)) throw failed('proof_failed', 'there is nothing to boot')
    const services = plan.services.map(({ name, reference }) => ({
      ...{ service: name, level: 'healthy', seconds: 21.5, digest: reference.digest },
    })) as { service: string; level: 'healthy'; seconds: number; digest: string }[]
    return { at: Date.now(), boots: [{ network: 'none', seconds: 30, services }], standIns: [], accelerator: 'tcg' }
  },
})

/** Holds a bake until it is let go. */
export function hold(): { wait: () => Promise<void>; entered: () => Promise<void>; release: () => void } {
  const [inside, out] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  return {
    async wait() {
      inside.resolve()
      await out.promise
    },
    entered: () => inside.promise,
    release: () => out.resolve(),
  }
}
