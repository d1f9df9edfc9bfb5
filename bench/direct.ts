import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { baseDisk } from '../test/support/base-disk.ts'
import { upload } from './direct/upload.ts'
import { BASE_IMAGE, byPhase, median, type Phases, Project, ROOT, round, say, timed, written } from './support.ts'

interface Baked {
  status: 'baked' | 'found'
  baker: string
  image: { path: string }
  phases: { phase: string; seconds: number }[]
}
const GB = 1000 ** 3
const MIB = 1024 ** 2
/** Where `bake base` begins its one partition. */
const OFFSET = MIB

/** Of Packer's bake: what a machine takes for itself, whatever is done on it. */
const MACHINE_PHASES = ['boot', 'power-off']

/**
 * The direct baker on one machine, whole commands without the proof: one line changed since the last bake with the page cache dropped; the same release by
 * Packer's path; the first bake onto a bare base against what the engine takes by itself for pulling the same images onto a plain copy of it; how the cost grows
 * with the change and with the disk; what is uploaded in a second. BAKE_BENCH_GROWTH=1 leaves out all but the smallest of that.
 *
 * Packer's path is that of one machine, its qemu builder: the scripts and the image are those of an instance's bake, but its machine is emulated here, and EC2's
 * own waiting (an instance's start, its snapshot's) is none of it. `packer_line_ms` is the whole command; `packer_line_work_ms` is that without the machine's boot
 * and power-off. What is left still runs in the machine, which without KVM is many times slower than it would be: phases are told so that everybody can judge.
 */
export default async function direct(runs = 5, parts = ['line', 'packer', 'first', 'growth', 'upload']): Promise<object> {
  const figures: object[] = []
  if (parts.includes('upload')) figures.push(await upload())
  if (parts.every((part) => part === 'upload')) return Object.assign({ runs }, ...figures)
  say('the base disk, unless it is there')
  const { disk } = await baseDisk()
  if (parts.includes('first')) figures.push(firstBake(disk, Math.max(1, Math.min(3, runs))))
  if (parts.includes('line') || parts.includes('packer')) figures.push(lineChanged(disk, runs, parts.includes('packer')))
  if (parts.includes('growth')) figures.push({ growth: growth(disk) })
  return Object.assign({ runs }, ...figures)
}

interface Sample {
  blocks: number
  ms: number
  phases: Phases
}

/** Bakes a release whose images are published, from a disk that no cache holds. */
function bake(project: Project, release: string, baker: 'direct' | 'packer' = 'direct'): Sample {
  project.bake('image')
  // A disk file is read once, and what it is remembered.
  project.bake('ami', '--release', release, '--no-verify', '--dry-run')
  dropCaches()
  // What the other baker made of the release would be found.
  const how = baker === 'packer' ? ['--baker', 'packer', '--rebake'] : []
  const { stdout, stderr, ms } = project.bake('ami', '--release', release, '--no-verify', '--json', ...how)
  const baked = JSON.parse(stdout) as Baked
  const blocks = Number(/(\d+) blocks changed/.exec(stderr)?.[1] ?? Number.NaN)
  if (baked.status !== 'baked' || baked.baker !== baker || (baker === 'direct' && Number.isNaN(blocks)))
    throw new Error(`not baked by ${baker}: ${stdout}\n${stderr}`)
  return { blocks, ms, phases: byPhase(baked.phases) }
}

/** What is in memory of the last run isn't there on another day. */
function dropCaches(): void {
  execFileSync('sync')
  writeFileSync('/proc/sys/vm/drop_caches', '3')
}

function lineChanged(disk: string, runs: number, withPacker: boolean): object {
  using project = new Project(app(disk))
  project.git('tag', 'v0')
  bake(project, 'v0')
  const samples = Array.from({ length: runs }, (_, n) => {
    project.write({ 'web/index.html': `line ${n} of ${Date.now()}\n` })
    project.commit(`line ${n}`)
    project.git('tag', `v${n + 1}`)
    return bake(project, `v${n + 1}`)
  })
  const [line_ms, line_blocks] = [median(samples.map(({ ms }) => ms)), median(samples.map(({ blocks }) => blocks))]
  say(
    `one line changed: ${Math.round(line_ms)} ms (bar 5000), ${line_blocks} blocks (bar 100): ${written(samples.at(-1)!.phases)}`,
  )
  const figures = { line_ms: round(line_ms), line_blocks, line_phases_s: samples.at(-1)!.phases }
  return withPacker ? { ...figures, ...byPacker(project, `v${runs}`, line_ms) } : figures
}

/** The same release, from the base as Packer does each time: once, because it takes minutes. */
function byPacker(project: Project, release: string, lineMs: number): object {
  say('the same release by Packer: some minutes without KVM')
  const { ms, phases } = bake(project, release, 'packer')
  const missing = MACHINE_PHASES.filter((phase) => phases[phase] === undefined)
  if (missing.length > 0) throw new Error(`Packer told of no ${missing.join(', ')}: ${written(phases)}`)
  const work = ms - 1000 * MACHINE_PHASES.reduce((sum, phase) => sum + phases[phase]!, 0)
  const times = (value: number) => `${round(value / lineMs)} times`
  say(`by Packer: ${Math.round(ms)} ms, ${times(ms)} as long; ${written(phases)}`)
  say(`without ${MACHINE_PHASES.join(' and ')}: ${Math.round(work)} ms, ${times(work)} as long (bar 5)`)
  const rehearsed = work - 1000 * (phases.rehearse ?? 0)
  say(`and without the rehearsal, which a chroot can't have: ${Math.round(rehearsed)} ms, ${times(rehearsed)} as long`)
  return { packer_line_ms: round(ms), packer_line_work_ms: round(work), packer_line_phases_s: phases }
}

function firstBake(disk: string, runs: number): object {
  const samples = Array.from({ length: runs }, () => {
    using project = new Project(app(disk))
    project.git('tag', 'v0')
    const { ms, phases } = bake(project, 'v0')
    const copy = join(project.dir, '.bake/alone.raw')
    timed('cp', ['--sparse=always', disk, copy])
    const port = /:(\d+)/.exec(project.host.registry)![1]!
    const image = project.bake('image').stdout.trim()
    // The copy too is read from the disk, as the base was.
    dropCaches()
    const alone = Number(timed('bash', [join(ROOT, 'bench/engine-alone.sh'), copy, String(OFFSET), port, image]).stdout)
    say(`  ${Math.round(ms)} ms: ${written(phases)}; the engine alone ${alone} ms`)
    return { ms, alone, phases }
  })
  const [first_ms, engine_first_ms] = [median(samples.map(({ ms }) => ms)), median(samples.map(({ alone }) => alone))]
  say(
    `the first bake: ${Math.round(first_ms)} ms (bar ${Math.round(1.2 * engine_first_ms + 5000)}), the engine alone ${Math.round(engine_first_ms)} ms`,
  )
  return { first_ms: round(first_ms), engine_first_ms: round(engine_first_ms), first_phases_s: samples.at(-1)!.phases }
}

/** Each on a lineage of its own: the first bake isn't counted. */
function growth(disk: string): object[] {
  const all = process.env.BAKE_BENCH_GROWTH !== '1'
  const changes: [gb: number, mib: number][] = all
    ? [...[1, 10, 100, 1000].map((mib): [number, number] => [8, mib]), ...[3, 30].map((gb): [number, number] => [gb, 10])]
    : [[8, 1]]
  return changes.map(([gb, mib]) => {
    // No part of any commit.
    using project = new Project(app('.git/base.raw'))
    const base = join(project.dir, '.git/base.raw')
    timed('cp', ['--sparse=always', disk, base])
    resize(base, gb)
    project.git('tag', 'v0')
    bake(project, 'v0')
    project.write({ 'web/blob': randomBytes(mib * MIB) })
    project.commit('more')
    project.git('tag', 'v1')
    const { ms, blocks } = bake(project, 'v1')
    say(`${mib} MiB changed on a disk of ${gb} GB: ${Math.round(ms)} ms, ${blocks} blocks`)
    return { disk_gb: gb, changed_mib: mib, ms: round(ms), blocks }
  })
}

/** As cloud-init does at a first boot, and back: the disk, its partition and the file system on it. */
function resize(path: string, gb: number): void {
  const bytes = Math.floor((gb * GB) / MIB) * MIB
  const device = `${path}?offset=${OFFSET}`
  if (bytes > statSync(path).size) truncateSync(path, bytes)
  // 1: something was put right.
  timed('sh', ['-c', 'e2fsck -fp "$0" || [ $? = 1 ]', device])
  timed('resize2fs', [device, `${(bytes - OFFSET) / 1024}K`])
  truncateSync(path, bytes)
  const sectors = Buffer.alloc(4)
  sectors.writeUInt32LE((bytes - OFFSET) / 512)
  const file = openSync(path, 'r+')
  // The first entry's length: https://en.wikipedia.org/wiki/Master_boot_record#Partition_table_entries
  writeSync(file, sectors, 0, 4, 446 + 12)
  closeSync(file)
}

/** A service of the example base's shape: Debian below, an application's files on top. */
const app = (disk: string): Record<string, string | Buffer> => ({
  'bake.yaml': `project: bench
images:
  web: { context: web }
machine:
  base: { disk: ${disk} }
  services:
    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/", within: 3m } }
`,
  'web/Dockerfile': `FROM ${BASE_IMAGE}\nCOPY --chmod=755 busybox /bin/busybox\nCOPY . /www/\nCMD ["/bin/busybox", "httpd", "-f", "-p", "3000", "-h", "/www"]\n`,
  'web/busybox': readFileSync('/bin/busybox'),
  'web/index.html': 'a line\n',
})
