import { readdir, readFile } from 'node:fs/promises'
import { runTool } from './run-tool.ts'

/** Where dockerd listens unless told. */
const DEFAULT_SOCKETS = new Set(['unix:///var/run/docker.sock', 'unix:///run/docker.sock'])

/**
 * The environment of the dockerd behind `host`, read from its process, or from systemd where the process may not be read; undefined when the engine is
 * elsewhere or nothing says which process it is.
 */
export async function engineEnvironment(host: string): Promise<Record<string, string> | undefined> {
  if (!host.startsWith('unix://')) return undefined
  const pid = await engineProcess(host)
  const environ = pid && (await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => undefined))
  if (environ) return variables(environ.split('\0'))
  if (!DEFAULT_SOCKETS.has(host)) return undefined
  const show = await runTool('systemctl', ['show', '--property=Environment', '--value', 'docker']).catch(() => undefined)
  return show ? variables(show.split(/\s+/)) : undefined
}

async function engineProcess(host: string): Promise<string | undefined> {
  const names = await readdir('/proc').catch(() => [] as string[])
  const pids = names.filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(
    pids.map(async (pid) =>
      (await text(`/proc/${pid}/comm`)).trim() === 'dockerd'
        ? [{ pid, words: (await text(`/proc/${pid}/cmdline`)).split('\0') }]
        : [],
    ),
  )
  const engines = found.flat()
  const named = engines.find(({ words }) => words.some((word) => word === host || word.endsWith(`=${host}`)))
  if (named !== undefined) return named.pid
  if (!DEFAULT_SOCKETS.has(host)) return undefined
  const main = (await text('/var/run/docker.pid')).trim()
  return engines.find(({ pid }) => pid === main)?.pid ?? (engines.length === 1 ? engines[0]!.pid : undefined)
}

const text = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')

const variables = (words: string[]): Record<string, string> =>
  Object.fromEntries(
    words
      .filter((word) => word.includes('='))
      .map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]),
  )
