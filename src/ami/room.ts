import { refused } from '../errors.ts'
import type { Base, ImageReference } from './machine.ts'

/**
 * Bytes on the machine's disk per compressed byte in the registry. Layers of distributions and language runtimes unpack to 2.5 times their size or more, and
 * an engine keeps the compressed ones besides, at least while it pulls: with less, hardly anything fits.
 */
const LEAST_PER_REGISTRY_BYTE = 3
/** What is enough also for many small files: Debian with Node.js, 101 MB in the registry, takes 514 MB in an engine with the containerd store. */
const AMPLE_PER_REGISTRY_BYTE = 5
/** Logs, containers' own layers and Docker's databases: with less, services fill the disk at once. */
const LEFT_BYTES = 256 * 1024 ** 2
/** Of a base where nobody can tell what is free: a distribution's server image with Docker. */
const USUAL_BASE_BYTES = 2 * 1024 ** 3
const GIB = 1024 ** 3

const text = (bytes: number) => `${(bytes / GIB).toFixed(1)} GiB`

/**
 * Refuses (`disk_too_small`, exit 2) a base whose disk can't take the images, with the size that would do, before anything is made. `images`: with sizes;
 * one that several services use counts once. `volumeBytes`: the size that an AMI's root volume gets.
 */
export function checkRoom(base: Base, images: ImageReference[], volumeBytes = 0): void {
  const distinct = new Map(images.map(({ digest, sizeBytes = 0 }) => [digest, sizeBytes]))
  const compressed = [...distinct.values()].reduce((sum, size) => sum + size, 0)
  const whole = base.kind === 'ami' ? Math.max(volumeBytes, base.virtualBytes) : base.virtualBytes
  const known = base.kind === 'disk' ? base.freeBytes : undefined
  const free = known ?? Math.max(0, whole - USUAL_BASE_BYTES)
  const least = compressed * LEAST_PER_REGISTRY_BYTE + LEFT_BYTES
  if (least <= free) return
  const size = Math.ceil((whole - free + compressed * AMPLE_PER_REGISTRY_BYTE + LEFT_BYTES) / GIB)
  const name = base.kind === 'ami' ? base.id : base.path
  throw refused(
    'disk_too_small',
    `${name} has ${text(free)} free, and the images need ${text(least)} at least (${text(compressed)} in the registry, ${LEAST_PER_REGISTRY_BYTE} times that unpacked)`,
    {
      next:
        base.kind === 'ami'
          ? `machine.ami.volume.size: ${size}GB would do`
          : `a disk of ${size} GB would do: bake base makes one`,
      ids: { base: name },
    },
  )
}
