import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { hostStatus } from '../../src/io/host/status.ts'
import { SqsQueue } from '../../src/io/queue-sqs.ts'
import { ENDED } from '../../src/jobs/records.ts'
import { waitFor } from '../../src/wait.ts'
import type { BakeResult } from './bake.ts'
import { makeProject, type TestProject, WEB_FILES } from './project.ts'
import type { RepoFiles } from './repo.ts'

export const yaml = (web: string, more = ''): string => `project: shop\nimages:\n  web: ${web}\n${more}`

export interface BadProject extends TestProject {
  /** A commit with these changes to the project as it was at first, checked out on `main`. Gives its id. */
  change(files: RepoFiles): Promise<string>
  /** Commits the change and runs `bake image`. */
  image(files: RepoFiles, ...args: string[]): Promise<BakeResult>
}

/** A project for many cases: its host stays between them, and temporary files go to a directory of its own, where they can be looked for. */
export async function badProject(
  files: RepoFiles = WEB_FILES,
  env: Record<string, string | undefined> = {},
): Promise<BadProject> {
  const project = await makeProject(files, { BAKE_HOST_LINGER_MS: '10000', ...env })
  project.env.TMPDIR = join(project.dir, '.git')
  const first = await project.repo.git('rev-parse', 'HEAD')
  const change = async (more: RepoFiles) => {
    await project.repo.git('checkout', '-q', '-f', '-B', 'main', first)
    return project.repo.commit(more)
  }
  return {
    ...project,
    change,
    async image(more, ...args) {
      await change(more)
      return project.bake(['image', ...args])
    },
  }
}

/** One error, its next step and nothing on stdout: what a person sees of bad input. `error` is searched for in all lines of the message. */
export function expectError(result: BakeResult, wanted: { exit: number; error: RegExp; next: RegExp }): void {
  const lines = result.stderr.split('\n')
  const errors = lines.filter((line) => line.startsWith('error: '))
  const nexts = lines.filter((line) => line.startsWith('next: '))
  expect(errors, result.stderr).toHaveLength(1)
  expect(nexts, result.stderr).toHaveLength(1)
  expect(result.stderr).not.toMatch(/^bug: |^\s+at .*:\d+:\d+/m)
  const message = lines.slice(lines.indexOf(errors[0]!), lines.indexOf(nexts[0]!)).join('\n')
  expect(message).toMatch(wanted.error)
  expect(nexts[0]).toMatch(wanted.next)
  expect({ code: result.code, stdout: result.stdout }, result.stderr).toEqual({ code: wanted.exit, stdout: '' })
}

/** Keys of the ledger but for signs of life: a worker that started has beaten, whether it got a job or not. */
export const ledgerKeys = async ({ ledger }: TestProject): Promise<string[]> =>
  (await ledger.list('')).filter((key) => !/^(beats|graves|workers)\//.test(key))

/** For what is refused before it is queued: the ledger knows nothing of it. */
export async function expectUntouched(project: TestProject): Promise<void> {
  expect(await ledgerKeys(project)).toEqual([])
  await expectNothingLeft(project)
}

/** Every build has ended, the queue and the dead letters are empty, no buildx, secret or temporary file stayed. */
export async function expectNothingLeft(project: TestProject, { dead = 0 } = {}): Promise<void> {
  const open = (await project.builds()).filter(({ status }) => !ENDED.has(status))
  expect(open).toEqual([])
  const host = await hostStatus(join(project.dir, '.bake'))
  if (host.running) {
    const queue = await SqsQueue.open({ endpoint: host.queueEndpoint, region: 'us-east-1', prefix: 'bake' })
    // The record of a build ends before its message is deleted.
    const empty = () => queue.depth().then((depth) => (depth.visible + depth.inFlight + depth.delayed === 0 ? depth : undefined))
    const depth = await waitFor(empty, { what: 'an empty queue', deadlineMs: 5_000, intervalMs: 50 })
    queue.close()
    expect(depth.dead).toBe(dead)
    expect((await readdir('/dev/shm')).filter((name) => name.startsWith(`bake-secrets-${host.pid}-`))).toEqual([])
  }
  expect((await project.processes()).filter((line) => /buildx|git-lfs|git fetch/.test(line))).toEqual([])
  for (const worker of await readdir(join(project.dir, '.bake/workers')).catch(() => []))
    expect(await readdir(join(project.dir, '.bake/workers', worker, 'held')).catch(() => [])).toEqual([])
  expect((await readdir(join(project.dir, '.git'))).filter((name) => /^(bake|docker|buildx|tmp)/i.test(name))).toEqual([])
}
