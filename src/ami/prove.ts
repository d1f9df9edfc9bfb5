import { join } from 'node:path'
import { withinSeconds } from '../docker-run.ts'
import { failed } from '../errors.ts'
import type { BakeRun, ImageReference, Proof, ProvenBoot, Service } from './machine.ts'
import type { BootDisk, MachineBoot, Machines } from './machines.ts'
import { type Expected, faultsOf, isNoReport, newReport, type ProofReport, readReportLine } from './proof-report.ts'
import { seedFiles } from './seed-files.ts'

/** Debian with Docker is up in 10 s on hardware, in 35 s in software emulation on an idle processor; two machines share it here. */
const BOOT_SECONDS = { kvm: 90, tcg: 300 } as const
/** For a container's start and stop, beside what its health check may take. */
const PER_SERVICE_SECONDS = { kvm: 15, tcg: 45 } as const
/** Unpacking an image: a stand-in is loaded when the machine is up. */
const PER_STAND_IN_SECONDS = { kvm: 60, tcg: 240 } as const
/** docs/design.md §8: without a health check a service counts after 20 s without a restart. */
const STARTED_SECONDS = 20
/** For services that nobody here knows. */
const UNKNOWN_SERVICES_SECONDS = 600
/** Names the throwaway disk that stand-ins come on: a tar of `docker save` from its first byte on. */
const STAND_INS_SERIAL = 'bake-standins'
/** Memory that nobody uses costs nothing here. */
const MEMORY_MIB = 2048
/** Of the console, beside journals. */
const FEW_LINES = 8
const CPUS = 2

export interface ProofAsk {
  disk: BootDisk
  /** What the machine runs beside its services; none: nothing. */
  script?: string
  standIns: ImageReference[]
  /** Undefined: the machine's own manifest counts. */
  expected?: Expected
  services: Pick<Service, 'health' | 'memoryBytes'>[]
}

type Run = Pick<BakeRun, 'dir' | 'signal' | 'tell'>

/** Boots a throwaway copy of the disk twice at the same time: with no network card, and with a network that answers nothing. */
export async function proveDisk(ask: ProofAsk, run: Run, machines: Machines): Promise<Omit<Proof, 'standIns'>> {
  const { accelerator, why } = await machines.accelerator(ask.disk, run)
  if (why !== undefined) note(run, `${why}: machines run in software emulation, which takes a minute or two`)
  const extraDisks: MachineBoot['extraDisks'] = []
  if (ask.standIns.length > 0) {
    const path = join(run.dir, 'stand-ins.tar')
    await machines.saveImages(path, ask.standIns, ask.disk.architecture, run.signal)
    extraDisks.push({ path, format: 'raw', serial: STAND_INS_SERIAL })
  }
  const seed = join(run.dir, 'seed.img')
  const files: Record<string, string> = ask.script === undefined ? {} : { 'proof.sh': ask.script }
  await machines.seed(seed, seedFiles({ instance: 'bake-proof', facts: { proof: 'console' }, files }), run.signal)
  const boots = await both(
    (network, signal) => proveBoot(network, { ask, accelerator, seed, extraDisks }, { ...run, signal }, machines),
    run.signal,
  )
  const faulty = boots.filter(({ faults }) => faults.length > 0)
  if (faulty.length > 0) throw proofFailed(faulty, ask.disk.path)
  return { at: Date.now(), boots: boots.map((one) => provenBoot(one, ask.expected)), accelerator }
}

/** One that can't run ends the other. */
async function both(
  boot: (network: 'none' | 'dead', signal: AbortSignal) => Promise<BootResult>,
  signal: AbortSignal,
): Promise<BootResult[]> {
  const stop = new AbortController()
  const either = AbortSignal.any([signal, stop.signal])
  const boots = (['none', 'dead'] as const).map((network) =>
    boot(network, either).catch((error: unknown) => {
      stop.abort(error)
      throw error
    }),
  )
  await Promise.allSettled(boots)
  return Promise.all(boots)
}

interface BootResult {
  network: 'none' | 'dead'
  report: ProofReport
  seconds: number
  faults: string[]
  last: string[]
}

interface Shared {
  ask: ProofAsk
  accelerator: 'kvm' | 'tcg'
  seed: string
  extraDisks: MachineBoot['extraDisks']
}

async function proveBoot(network: 'none' | 'dead', shared: Shared, run: Run, machines: Machines): Promise<BootResult> {
  const { ask, accelerator, seed, extraDisks } = shared
  const report = newReport()
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  let ended: number | undefined
  const limit = limitSeconds(ask, accelerator)
  const tooLong = AbortSignal.timeout(limit * 1000)
  await using machine = await machines.boot({
    ...{ disk: ask.disk, network, seed, extraDisks, accelerator, cpus: CPUS, dir: run.dir, signal: run.signal },
    memoryMiB: MEMORY_MIB + Math.ceil(ask.services.reduce((sum, { memoryBytes = 0 }) => sum + memoryBytes, 0) / 1024 ** 2),
    console(line) {
      run.tell({ type: 'line', phase: 'proof', text: `${network}: ${line}`, t: Date.now() })
      readReportLine(report, line)
      if (report.ok !== undefined) ended ??= seconds()
    },
  })
  const off = await Promise.race([machine.off().then(() => true), aborted(tooLong).then(() => false)])
  run.signal.throwIfAborted()
  const faults = faultsOf(report, ask.expected)
  if (!off && report.ok === undefined) faults.push(`it took longer than ${limit} s`)
  if (faults.length === 0)
    note(run, `${label(network)}: ${report.services.size} services up after ${(ended ?? seconds()).toFixed(1)} s`)
  return { network, report, seconds: ended ?? seconds(), faults, last: machine.last() }
}

/** As long as it may take before something hangs. */
function limitSeconds({ services, standIns, expected }: ProofAsk, accelerator: 'kvm' | 'tcg'): number {
  const each = services.map(({ health }) => withinSeconds(health) + STARTED_SECONDS + PER_SERVICE_SECONDS[accelerator])
  const all = expected === undefined ? UNKNOWN_SERVICES_SECONDS : each.reduce((sum, one) => sum + one, 0)
  return BOOT_SECONDS[accelerator] + standIns.length * PER_STAND_IN_SECONDS[accelerator] + all
}

const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))

const note = (run: Run, text: string) => run.tell({ type: 'note', level: 'info', text, t: Date.now() })

const label = (network: 'none' | 'dead') => (network === 'none' ? 'no network card' : 'a dead network')

function provenBoot({ network, report, seconds }: BootResult, expected: Expected | undefined): ProvenBoot {
  const names = expected?.services.map(({ name }) => name) ?? [...report.services.keys()]
  const services = names.flatMap((name) => {
    const said = report.services.get(name)
    if (said === undefined || said.state === 'failed') return []
    return [{ service: name, level: said.state, seconds: said.seconds, digest: said.digest }]
  })
  return { network, seconds, services }
}

/** Says why, then shows each failing unit's journal and where the console ended. */
function proofFailed(boots: BootResult[], disk: string) {
  const why = boots.map(({ network, faults }) => `with ${label(network)}: ${faults.join('; ')}`)
  const shown = boots[0]!
  const logs = [...shown.report.logs].flatMap(([name, lines]) => [`${name}'s journal:`, ...lines.map((line) => `  ${line}`)])
  // The journals tell more than what the console shows besides, so that is short then.
  const lines = logs.length > 0 ? shown.last.filter(isNoReport).slice(-FEW_LINES) : shown.last
  const console = lines.length === 0 ? [] : ['the console’s last lines:', ...lines.map((line) => `  ${line}`)]
  return failed('proof_failed', [`the machine image is not proven: ${why.join('; ')}`, ...logs, ...console].join('\n'), {
    ids: { disk },
    next: 'what a service needs to start must be on the machine, or stand in for it: services.*.proof in bake.yaml',
  })
}
