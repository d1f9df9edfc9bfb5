import type { Baked } from '../ami/machine.ts'
import { type RunAsk, runMachine } from '../ami/run.ts'
import { openWorkDir } from '../ami/work-dir.ts'
import { refused } from '../errors.ts'
import type { Emit } from '../events.ts'
import { freePort } from '../io/host/ports.ts'
import { openShell, waitForSsh } from '../io/ssh.ts'
import { makeSshKey } from '../io/ssh-key.ts'
import { newBuildId } from '../names.ts'
import { machinePlatform } from '../platform-name.ts'
import { bootDisk, isDiskPath, projectOrNone, qemuMachines } from './machines.ts'
import type { Project } from './project.ts'
import { thisProcess } from './whoami.ts'

export interface RunRequest {
  /** A release's name, or a disk's path. */
  what: string
  /** `H:G`; 0 for H: any free port. */
  ports: string[]
  shell: boolean
  emit: Emit
  /** Called when the terminal becomes the shell's: nothing else may draw on it any more. */
  giveTerminal(): void
  drain: AbortSignal
  abort: AbortSignal
}

/** `bake run`: the ports that lead inside, once the machine is off again. Throws bad_flag (exit 2) and what runMachine throws. */
export async function runRelease(request: RunRequest): Promise<{ ports: { host: number; guest: number }[] }> {
  const { emit, shell, drain, abort } = request
  const forwards = await Promise.all(request.ports.map(parsePort))
  const { project, stateDir } = await projectOrNone()
  const found = await findDisk(request.what, project, drain)
  await using work = await openWorkDir(stateDir, newBuildId(), thisProcess())
  const machines = qemuMachines(stateDir)
  let given = false
  await runMachine(
    { ...found, forwards, shell },
    {
      ...machines,
      freePort,
      key: makeSshKey,
      async shell(at, signal) {
        await waitForSsh(at, signal)
        given = true
        request.giveTerminal()
        await openShell(at)
      },
      dir: work.path,
      note: (text) => emit({ type: 'notice', level: 'info', text }),
      console: (text) => {
        if (!given) emit({ type: 'machine', event: { type: 'line', phase: 'running', text, t: Date.now() } })
      },
      drain,
      abort,
    },
  )
  return { ports: forwards }
}

async function findDisk(
  what: string,
  project: Project | undefined,
  signal: AbortSignal,
): Promise<Pick<RunAsk, 'disk' | 'release'>> {
  if (isDiskPath(what)) return { disk: await bootDisk(what, undefined, signal) }
  if (project === undefined)
    throw refused('config_missing', `${what} is no disk's path, and there is no bake.yaml here to know releases by`, {
      next: `cd to the project, or name a disk: bake run ./${what}.qcow2`,
    })
  const { findRelease } = await import('../ami/list.ts')
  const { hasDisk } = await import('../ami/shelf-disk.ts')
  const onDisk = { ...project, has: async (baked: Baked) => baked.kind === 'disk' && hasDisk(baked) }
  const { release, machines } = await findRelease(what, onDisk)
  const disks = machines.filter(({ baked, there }) => baked.kind === 'disk' && there)
  // Newest first; another architecture can only be emulated.
  const machine = disks.find(({ document }) => `linux/${document.architecture}` === machinePlatform()) ?? disks[0]
  if (machine?.baked.kind !== 'disk') throw notHere(what, machines.length)
  const { base } = machine.document
  const kernel = base.kind === 'disk' ? base.sha256 : undefined
  return { disk: await bootDisk(machine.baked.path, kernel, signal), release }
}

const notHere = (name: string, baked: number) =>
  refused('not_baked', `release ${name} has no disk on this machine${baked === 0 ? ': it is not baked' : ''}`, {
    next: `bake ami --release ${name}    bakes one where machine.base is a disk`,
    ids: { release: name },
  })

async function parsePort(text: string): Promise<{ host: number; guest: number }> {
  const [, host, guest] = /^(\d{1,5}):(\d{1,5})$/.exec(text) ?? []
  const numbers = [Number(host), Number(guest)]
  if (host === undefined || numbers.some((port) => port > 65_535) || numbers[1] === 0)
    throw refused('bad_flag', `--port ${text} is not H:G, a port of this machine and one of the virtual machine`, {
      next: '--port 8080:80',
    })
  return { host: Number(host) || (await freePort()), guest: Number(guest) }
}
