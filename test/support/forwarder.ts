import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** A link as slow as told, each direction by itself. (The kernels that tests run on have neither netem nor tbf.) */
export interface Shape {
  megabitsPerSecond: number
  /** One way: a round trip takes twice as long. */
  latencyMs: number
}

export interface ForwardRequest {
  id: number
  /** Path of the network namespace whose loopback is listened on; this one's unless told. */
  netns?: string
  /** 0: a free one. */
  port: number
  /** A port of this machine's loopback. */
  to: number
  shape?: Shape
}

export interface Forwarder extends AsyncDisposable {
  readonly pid: number
  /** Carries connections to 127.0.0.1:`port` on to this machine's 127.0.0.1:`to`; the port that is listened on. */
  forward(request: Omit<ForwardRequest, 'id'>): Promise<number>
}

const PROCESS = fileURLToPath(new URL('./forwarder-process.ts', import.meta.url))

/** A process that carries TCP connections; it dies with this one, whatever signal that gets. */
export async function startForwarder(): Promise<Forwarder> {
  const child = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', '--', process.execPath, '--disable-warning=ExperimentalWarning', PROCESS],
    {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    },
  )
  const exited = once(child, 'exit')
  const answers = new Map<number, (answer: { port?: number; error?: string }) => void>()
  const answer = (id: number) =>
    Promise.race([
      new Promise<{ port?: number; error?: string }>((resolve) => answers.set(id, resolve)),
      exited.then(([code]): { port?: number; error?: string } => ({ error: `the forwarder ended with ${code}` })),
    ])
  child.on('message', ({ id, ...rest }: { id: number; port?: number; error?: string }) => answers.get(id)?.(rest))
  let last = 0
  const started = await answer(last)
  if (started.error !== undefined) throw new Error(started.error)
  // A test that forgets it still ends.
  child.unref()
  child.channel?.unref()
  return {
    pid: child.pid!,
    async forward(request) {
      const id = ++last
      child.channel?.ref()
      child.send({ id, ...request })
      const { port, error } = await answer(id)
      child.channel?.unref()
      if (error !== undefined || port === undefined) throw new Error(`no forwarding of port ${request.port}: ${error}`)
      return port
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.ref()
      child.kill('SIGKILL')
      await exited
    },
  }
}
