import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** What QEMU's user mode emulators are called → the platform they run. */
const EMULATORS: Record<string, string> = {
  aarch64: 'linux/arm64',
  arm: 'linux/arm/v7',
  x86_64: 'linux/amd64',
  i386: 'linux/386',
  riscv64: 'linux/riscv64',
  ppc64le: 'linux/ppc64le',
  s390x: 'linux/s390x',
  loongarch64: 'linux/loong64',
  mips64: 'linux/mips64',
  mips64el: 'linux/mips64le',
}

/**
 * Foreign platforms whose programs this machine's kernel hands to an emulator, also inside a container: entries that are enabled and have the flag F, which
 * opens the emulator outside the container's root (https://docs.kernel.org/admin-guide/binfmt-misc.html). Empty when there is no binfmt_misc.
 */
export async function emulatedPlatforms(root = '/proc/sys/fs/binfmt_misc'): Promise<string[]> {
  const names = await readdir(root).catch(() => [] as string[])
  const found = await Promise.all(
    names.map(async (name) => {
      const platform = name === 'rosetta' ? 'linux/amd64' : EMULATORS[name.replace(/^(?:qemu|buildkit-qemu)-/, '')]
      if (platform === undefined) return []
      const entry = await readFile(join(root, name), 'utf8').catch(() => '')
      return /^enabled$/m.test(entry) && /^flags:.*F/m.test(entry) ? [platform] : []
    }),
  )
  return [...new Set(found.flat())].sort()
}
