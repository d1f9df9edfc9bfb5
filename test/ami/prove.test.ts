import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { MachineBoot, Machines } from '../../src/ami/machines.ts'
import { type ProofAsk, proveDisk } from '../../src/ami/prove.ts'
import type { MachineEvent } from '../../src/events.ts'

/** The story around the machines, which talk from a script here; real ones boot in test/e2e. */

const DIGEST = `sha256:${'1'.repeat(64)}`
const INPUTS = 'a'.repeat(64)
const say = (value: object) => `bake-proof: ${JSON.stringify(value)}`
const HEALTHY = [
  '[    0.000000] Linux version 6.1',
  say({ type: 'begin', inputs: INPUTS }),
  say({ type: 'service', name: 'web', state: 'healthy', seconds: 31.2, digest: DIGEST }),
  say({ type: 'end', ok: true }),
]
const FAILED = [
  '[    0.000000] Linux version 6.1',
  say({ type: 'begin', inputs: INPUTS }),
  say({ type: 'service', name: 'web', state: 'failed', seconds: 91, digest: DIGEST, why: 'not healthy within 60 s' }),
  say({ type: 'log', name: 'web', text: 'Error: getaddrinfo EAI_AGAIN db' }),
  say({ type: 'end', ok: false }),
]
const ASK: ProofAsk = {
  disk: { path: '/d/disk.qcow2', format: 'qcow2', architecture: 'amd64', firmware: 'bios', kernel: 'k' },
  script: 'echo stand-ins',
  standIns: [],
  services: [{}],
  expected: { inputs: INPUTS, services: [{ name: 'web', digest: DIGEST, level: 'healthy' }] },
}

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-prove-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

type Script = string[] | 'hang' | Error

/** Machines that print what is in their script, by network, and power off. */
function scripted(scripts: Record<'none' | 'dead', Script>) {
  const boots: MachineBoot[] = []
  const running = new Set<string>()
  const saved: string[] = []
  const machines: Machines = {
    accelerator: async () => ({ accelerator: 'tcg', why: 'no KVM' }),
    seed: async (path, files) => writeFile(path, JSON.stringify(files)),
    saveImages: async (_path, images) => void saved.push(...images.map(({ image }) => image)),
    async boot(options) {
      const network = options.network as 'none' | 'dead'
      boots.push(options)
      running.add(network)
      const script = scripts[network]
      const last: string[] = []
      const off = (async () => {
        if (script instanceof Error) throw script
        if (script === 'hang')
          return new Promise<never>((_, reject) => {
            options.signal.addEventListener('abort', () => reject(options.signal.reason))
          })
        for (const line of script) {
          await sleep(1)
          last.push(line)
          options.console(line)
        }
      })()
      off.catch(() => {})
      return {
        last: () => last,
        off: () => off,
        powerDown: async () => {},
        [Symbol.asyncDispose]: async () => void running.delete(network),
      }
    },
  }
  return { machines, boots, running, saved }
}

function runOf() {
  const told: MachineEvent[] = []
  return { told, run: { dir, signal: new AbortController().signal, tell: (event: MachineEvent) => void told.push(event) } }
}

test('two boots that both come up are a proof, with the seconds of each', async () => {
  const { machines, boots, running } = scripted({ none: HEALTHY, dead: HEALTHY })
  const { run, told } = runOf()
  const proof = await proveDisk(ASK, run, machines)
  const services = [{ service: 'web', level: 'healthy', seconds: 31.2, digest: DIGEST }]
  expect(proof).toMatchObject({
    accelerator: 'tcg',
    boots: [
      { network: 'none', services },
      { network: 'dead', services },
    ],
  })
  expect(boots.map(({ network, extraDisks }) => [network, extraDisks])).toEqual([
    ['none', []],
    ['dead', []],
  ])
  expect(running.size).toBe(0)
  const texts = told.flatMap((event) => (event.type === 'note' ? [event.text] : []))
  expect(texts[0]).toMatch(/^no KVM: machines run in software emulation/)
  expect(texts.slice(1)).toEqual([
    expect.stringMatching(/^no network card: 1 service/),
    expect.stringMatching(/^a dead network: 1/),
  ])
  expect(JSON.parse(await readFile(join(dir, 'seed.img'), 'utf8'))).toMatchObject({
    'user-data': expect.stringContaining('#bake proof=console'),
    'proof.sh': 'echo stand-ins',
  })
})

test('stand-ins come on a disk of their own', async () => {
  const { machines, boots, saved } = scripted({ none: HEALTHY, dead: HEALTHY })
  const standIns = [{ image: 'jobs-db', repository: 'localhost/db', digest: DIGEST }]
  await proveDisk({ ...ASK, standIns }, runOf().run, machines)
  expect(saved).toEqual(['jobs-db'])
  const disk = { path: join(dir, 'stand-ins.tar'), format: 'raw', serial: 'bake-standins' }
  expect(boots.map(({ extraDisks }) => extraDisks)).toEqual([[disk], [disk]])
})

test("a service that needs the network fails the proof, with its unit's journal and the console's last lines", async () => {
  const { machines } = scripted({ none: HEALTHY, dead: ['[    1.0] docker0: up', ...FAILED] })
  await expect(proveDisk(ASK, runOf().run, machines)).rejects.toMatchObject({
    code: 'proof_failed',
    exit: 3,
    message: expect.stringMatching(
      /not proven: with a dead network: web: not healthy within 60 s\nweb's journal:\n {2}Error: getaddrinfo EAI_AGAIN db\nthe console’s last lines:\n {2}\[ {4}1\.0\] docker0: up\n?/,
    ),
  })
})

test("a machine that never reports fails it, with the console's last lines", async () => {
  const { machines } = scripted({ none: ['Booting…', 'Kernel panic - not syncing'], dead: HEALTHY })
  await expect(proveDisk(ASK, runOf().run, machines)).rejects.toMatchObject({
    message: expect.stringMatching(
      /with no network card: the machine never began its proof\n.*last lines:\n {2}Booting…\n {2}Kernel panic/,
    ),
  })
})

test('a machine that can’t run ends the other one', async () => {
  const { machines, running } = scripted({ none: 'hang', dead: new Error('no such disk') })
  await expect(proveDisk(ASK, runOf().run, machines)).rejects.toThrow('no such disk')
  expect(running.size).toBe(0)
})
