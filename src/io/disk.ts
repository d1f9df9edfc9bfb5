import { statfs } from 'node:fs/promises'

/** The file system of a path. */
export interface Disk {
  freeBytes: number
  totalBytes: number
  freeInodes: number
  /** 0: it has no fixed number of them. */
  totalInodes: number
}

/** What an unprivileged process may still use of the file system that has `path`. Throws statfs(2)'s errors. */
export async function diskOf(path: string): Promise<Disk> {
  const { bavail, blocks, bsize, ffree, files } = await statfs(path)
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, freeInodes: ffree, totalInodes: files }
}
