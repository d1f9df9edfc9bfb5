import { mkdir, readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { MachinePlan } from '../ami/machine.ts'
import { writeRendered } from '../ami/render.ts'
import { messageOf, refused } from '../errors.ts'
import { findPacker } from '../io/packer.ts'

/** Writes what a plan was rendered to into `out`, with the template of the Packer that is here. Throws out_not_empty or out_unwritable (exit 2). */
export async function writeRendering({ rendered }: MachinePlan, out: string): Promise<string[]> {
  const dir = resolve(out)
  await mkdir(dir, { recursive: true }).catch((cause: unknown) => {
    throw refused('out_unwritable', `can't make ${dir}: ${messageOf(cause)}`, { next: 'give --out another directory', cause })
  })
  if ((await readdir(dir)).length > 0)
    throw refused('out_not_empty', `${dir} is not empty`, { next: 'give --out a directory that is empty or not there yet' })
  const { namesPlugins } = await findPacker().catch(() => ({ namesPlugins: true }))
  const template = namesPlugins ? rendered.packer?.plugins : rendered.packer?.builtIn
  const written = await writeRendered(dir, rendered, template ?? '')
  return written.map((path) => join(dir, path))
}
