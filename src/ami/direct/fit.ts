import type { FoundFileSystem } from '../../io/disk-file-systems.ts'
import type { HelperWay } from '../../io/disk-helper.ts'

/** What this machine has for changing disks by itself. */
export interface Means {
  platform: string
  architecture: 'amd64' | 'arm64' | undefined
  /** Undefined: nobody mounts disks for this user. */
  helper: HelperWay | undefined
  /** Commands that aren't there, and files. */
  missing: string[]
}

/** Why this machine can't change disks for `architecture` by itself, as the end of a sentence; undefined when it can. Pure. */
export function unfitMachine({ platform, architecture, helper, missing }: Means, wanted: 'amd64' | 'arm64'): string | undefined {
  if (platform !== 'linux') return `this is ${platform}, and a disk is mounted on Linux only`
  if (helper === undefined)
    return "the disk is mounted by root, which this user can't have done (docs/direct-bake.md, Permissions)"
  if (architecture !== wanted) return `the disk is for ${wanted}, whose programs don't run here`
  if (missing.length > 0) return `this machine has no ${missing.join(', no ')}${where(missing)}`
  return undefined
}

/** Programs can be installed; a device is the kernel's, or kept from this process. */
const where = (missing: string[]): string =>
  missing.every((name) => name.startsWith('/dev/')) ? '' : ' (bin/setup --machines installs programs)'

/** File systems that the root's may be, and what the others are called where one of them is the reason. */
const FIT = ['ext4', 'xfs']
const NAMES: Record<string, string> = { lvm: 'LVM', luks: 'LUKS', btrfs: 'btrfs', squashfs: 'squashfs' }

/**
 * Where a disk's root file system may lie, the largest first; or why none is found: `none` tells it as the end of a sentence. Pure. Boot partitions are
 * candidates too; who mounts them sees which one has a system on it.
 */
export function rootCandidates(found: FoundFileSystem[] | undefined): { roots: FoundFileSystem[] } | { none: string } {
  if (found === undefined) return { none: 'it has no partition table' }
  // Beside LVM, LUKS or btrfs a plain file system is /boot.
  const other = found.find(({ type }) => type in NAMES)
  if (other) return { none: `its root file system is in ${NAMES[other.type]}` }
  const roots = found.filter(({ type }) => FIT.includes(type)).sort((a, b) => b.length - a.length)
  return roots.length > 0 ? { roots } : { none: 'it has no ext4 and no xfs file system' }
}
