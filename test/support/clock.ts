import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestProject } from './project.ts'

const MODULE = new URL('./shifted-clock.ts', import.meta.url).href

/** A clock for some processes of a project, wrong by what it was set to last. */
export async function clock(project: TestProject, name: string, offsetMs = 0) {
  const file = join(project.dir, '.git', `clock-${name}`)
  const set = (ms: number) => writeFile(file, String(ms))
  await set(offsetMs)
  return { set, env: { NODE_OPTIONS: `--import=${MODULE} --disable-warning=ExperimentalWarning`, BAKE_TEST_CLOCK: file } }
}
