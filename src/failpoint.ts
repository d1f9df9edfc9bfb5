import { setTimeout as sleep } from 'node:timers/promises'

/**
 * A named point between two steps of a story, for crash tests (after FreeBSD's fail(9)). BAKE_FAILPOINT is unset in real life; in a test it is
 * `<name>:kill` (SIGKILL to this process), `<name>:stop` (SIGSTOP) or `<name>:sleep:<ms>`; several are separated by commas. Each fires once.
 */
export async function failpoint(name: string): Promise<void> {
  if (process.env.BAKE_FAILPOINT === undefined) return
  for (const entry of process.env.BAKE_FAILPOINT.split(',')) {
    const [point, action, argument] = entry.split(':')
    if (point !== name || fired.has(entry)) continue
    fired.add(entry)
    process.stderr.write(`${JSON.stringify({ failpoint: name, action, pid: process.pid })}\n`)
    if (action === 'kill') process.kill(process.pid, 'SIGKILL')
    if (action === 'stop') process.kill(process.pid, 'SIGSTOP')
    await sleep(action === 'sleep' ? Number(argument) : 100)
  }
}

const fired = new Set<string>()
