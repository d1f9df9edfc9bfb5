import { stat } from 'node:fs/promises'
import { tool } from './tool.ts'

/** The smallest that every FAT takes without a thought, and what a seed's few files need several times over. */
const LEAST_KIB = 1440

/**
 * Writes a FAT image with `files` (name → text) to `path`, labelled CIDATA: what cloud-init's NoCloud source and bake-instance.service look for
 * (https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html). Needs no root. Throws tool_missing (exit 4); `path` must not be there.
 */
export async function makeSeed(path: string, files: Record<string, string>, signal?: AbortSignal): Promise<void> {
  const bytes = Object.values(files).reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  await tool('mkfs.vfat', ['-C', '-n', 'CIDATA', path, String(LEAST_KIB + 2 * Math.ceil(bytes / 1024))], { signal })
  for (const [name, text] of Object.entries(files)) {
    await tool('mcopy', ['-i', path, '-', `::${name}`], { stdin: text, signal, env: { MTOOLS_SKIP_CHECK: '1' } })
  }
  await stat(path)
}
