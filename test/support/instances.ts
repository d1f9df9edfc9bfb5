import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DescribeInstanceAttributeCommand, DescribeInstancesCommand, EC2Client, type Instance } from '@aws-sdk/client-ec2'
import { keyCredentials } from '../../src/ami/seed-files.ts'
import { machineArguments } from '../../src/io/qemu-arguments.ts'
import { createOverlay } from '../../src/io/qemu-img.ts'
import { askQemu } from '../../src/io/qmp.ts'
import { makeSeed } from '../../src/io/seed.ts'
import { MOTO_REGION, type Moto } from './moto.ts'

/**
 * STAND-IN for EC2's hypervisor: virtual machines of this machine play moto's instances. The first one is of the base disk and is reached by SSH; its disk is
 * what the AMI is of, so those that come after it boot copies of it, and nothing answers them.
 */
export interface PlayedInstances extends AsyncDisposable {
  /** All that the instance has written to its serial console. */
  console(id: string): string
  /** Ids of instances, in the order in which they were started. */
  readonly ids: string[]
  /** Rejects when a virtual machine couldn't play. */
  readonly failed: Promise<never>
}

interface Options {
  moto: Moto
  /** A raw disk, which is not written to. */
  disk: string
  /** Of this machine: leads to SSH of the first. */
  sshPort: number
}

const POLL_MS = 500
/** In software emulation, beside whatever else the machine does. */
const POWER_OFF_MS = 120_000
const OFF = new Set(['stopping', 'stopped'])
const GONE = new Set(['shutting-down', 'terminated'])

export async function playInstances({ moto, disk, sshPort }: Options): Promise<PlayedInstances> {
  const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
  const ec2 = new EC2Client({ region: MOTO_REGION, endpoint: moto.endpoint, credentials })
  const dir = await mkdtemp(join(tmpdir(), 'bake-instances-'))
  const played = new Map<string, Promise<Played>>()
  const consoleOf = (id: string): string => {
    const path = join(dir, `${id}.console`)
    return existsSync(path) ? readFileSync(path, 'utf8') : ''
  }
  const failure = Promise.withResolvers<never>()
  failure.promise.catch(() => {})
  const kept = join(dir, 'kept.qcow2')
  await createOverlay(kept, { path: disk, format: 'raw' })

  async function play(id: string, isFirst: boolean): Promise<Played> {
    const { UserData } = await ec2.send(new DescribeInstanceAttributeCommand({ InstanceId: id, Attribute: 'userData' }))
    const userData = Buffer.from(UserData?.Value ?? '', 'base64').toString()
    const seed = join(dir, `${id}.img`)
    await makeSeed(seed, { 'meta-data': `instance-id: ${id}\n`, 'user-data': userData })
    // The disk has no cloud-init: systemd takes the key.
    const key = /command=.*?(ssh-ed25519 [^"\s]+)/.exec(userData)?.[1]
    const machine = power(join(dir, id), {
      disk: kept,
      writes: isFirst,
      seed,
      network: isFirst ? { hostForwards: [{ host: sshPort, guest: 22 }] } : 'dead',
      credentials: key === undefined ? {} : keyCredentials(key),
    })
    // The one that is baked is switched off by whoever bakes.
    if (isFirst)
      void machine.off.then((wanted) => {
        if (!wanted) failure.reject(new Error(`${id} has ended by itself:\n${consoleOf(id).slice(-4000)}`))
      })
    return machine
  }

  async function look(): Promise<void> {
    const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({}))
    for (const instance of Reservations.flatMap(({ Instances = [] }) => Instances)) await follow(instance)
  }

  async function follow({ InstanceId: id = '', State }: Instance): Promise<void> {
    const state = State?.Name ?? ''
    if (!played.has(id) && !GONE.has(state) && !OFF.has(state)) {
      const before = [...played.values()]
      // The image is of a machine that was switched off.
      const started = Promise.all(before.map(async (each) => (await each).off)).then(() => play(id, before.length === 0))
      started.catch(failure.reject)
      played.set(id, started)
    }
    if (OFF.has(state))
      void played
        .get(id)
        ?.then((it) => it.powerDown())
        .catch(failure.reject)
    if (GONE.has(state))
      void played
        .get(id)
        ?.then((it) => it.unplug())
        .catch(failure.reject)
  }

  const stop = new AbortController()
  const watching = (async () => {
    while (!stop.signal.aborted) {
      await look()
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  })().catch(failure.reject)
  return {
    console: consoleOf,
    get ids() {
      return [...played.keys()]
    },
    failed: failure.promise,
    async [Symbol.asyncDispose]() {
      stop.abort()
      await watching
      for (const each of played.values()) await each.then((it) => it.unplug()).catch(() => {})
      ec2.destroy()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

interface Played {
  /** Settles when it is off: whether it had been told to. */
  off: Promise<boolean>
  powerDown(): Promise<void>
  unplug(): void
}

interface Power {
  disk: string
  /** Whether what it writes stays. */
  writes: boolean
  seed: string
  network: Parameters<typeof machineArguments>[0]['network']
  credentials: Record<string, string>
}

function power(name: string, { disk, writes, seed, network, credentials }: Power): Played {
  const control = `${name}.qmp`
  const args = machineArguments({
    disk: { path: disk, format: 'qcow2' },
    ...{
      architecture: 'amd64',
      network,
      memoryMiB: 2048,
      cpus: 2,
      accelerator: 'tcg',
      credentials,
      control,
      console: `${name}.console`,
    },
    extraDisks: [{ path: seed, format: 'raw', serial: 'seed' }],
  }).map((arg) => (writes && arg.startsWith('if=none,id=root,') ? arg.replace('snapshot=on', 'snapshot=off') : arg))
  // It ends with this process, whatever ends that.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  let told = false
  const off = once(child, 'close').then(() => told)
  const unplug = () => {
    told = true
    child.kill('SIGKILL')
  }
  return {
    off,
    async powerDown() {
      if (told) return
      told = true
      await askQemu(control, 'system_powerdown')
      const timer = setTimeout(unplug, POWER_OFF_MS)
      await off
      clearTimeout(timer)
    },
    unplug,
  }
}
