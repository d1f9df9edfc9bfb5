import { readdir, readFile, readlink } from 'node:fs/promises'

export interface PortHolder {
  pid: number
  /** Its command line, arguments separated by spaces. */
  command: string
}

/** A line of /proc/net/tcp in state LISTEN (proc(5)). */
const LISTEN = '0A'

/** Who listens on TCP `port` of this machine; undefined when nobody does, or when /proc doesn't tell this user. */
export async function portHolder(port: number): Promise<PortHolder | undefined> {
  const inodes = await listeningInodes(port)
  if (inodes.size === 0) return undefined
  for (const pid of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(pid)) continue
    for (const descriptor of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => '')
      if (!inodes.has(target)) continue
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
      return { pid: Number(pid), command: command.replaceAll('\0', ' ').trim() }
    }
  }
  return undefined
}

async function listeningInodes(port: number): Promise<Set<string>> {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const tables = await Promise.all(['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFile(path, 'utf8').catch(() => '')))
  const lines = tables.flatMap((table) => table.split('\n').map((line) => line.trim().split(/\s+/)))
  return new Set(
    lines.filter((field) => field[3] === LISTEN && field[1]?.endsWith(suffix)).map((field) => `socket:[${field[9]}]`),
  )
}
