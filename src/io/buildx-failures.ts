import { type BakeError, failed, unavailable } from '../errors.ts'
import type { FailedStep } from './buildx-events.ts'
import { type Evidence, FAILURES, withTail } from './buildx-failure-table.ts'
import type { ChildExit } from './child.ts'
import { registryIsFull } from './registry-full.ts'

/** Engines keep working with less, but a step that failed then most likely failed for it. */
const FULL_BYTES = 64 * 1024 * 1024

export interface BuildxEnd {
  /** What buildx wrote besides JSON. */
  text: string
  step: FailedStep | undefined
  exit: ChildExit
  /** Free bytes of the engine's disk when a step failed, if it is this machine's. */
  freeBytes: number | undefined
  dataRoot: string | undefined
  push: string[]
}

/**
 * Whose failure a build's end is: the user's dockerfile_failed, base_not_found, build_failed (exit 3), or the world's (exit 4). BuildKit tells text only, so
 * the table of patterns decides; text that nobody knows is the user's, so that it isn't tried again and again. The message's first line is the summary; the
 * failed step's last lines of output follow (they may hold secrets: redact it like the log).
 */
export async function classifyFailure(end: BuildxEnd): Promise<BakeError> {
  const evidence = gather(end)
  if (evidence.exitCode !== undefined && end.freeBytes !== undefined && end.freeBytes < FULL_BYTES) return diskFull(evidence, end)
  for (const { pattern, error } of FAILURES) {
    const match = pattern.exec(evidence.reason)
    if (match) return refine(error(match, evidence), end)
  }
  return failed('build_failed', withTail(`the build failed: ${evidence.reason}`, evidence), { ids: evidence.ids })
}

function gather({ text, step, exit }: BuildxEnd): Evidence {
  const errors = [...text.matchAll(/^ERROR: /gm)]
  const last = errors.at(-1)
  const found = last ? text.slice(last.index + last[0].length) : ''
  const told = found
    .replace(/^failed to (?:solve|build): /, '')
    .replace(/^rpc error: code = Unknown desc = /, '')
    // An upload's state, or a signature: of no use to anyone, and not for everyone's eyes.
    .replace(/("https?:\/\/[^"?\s]*)\?[^"\s]*"/g, '$1"')
  // Without the containerd store the engine pushes, and its errors don't say what.
  const pushing = /^pushing (\S+) with docker$/.exec(step?.name ?? '')
  const reason = pushing && !told.startsWith('failed to push') ? `failed to push ${pushing[1]}: ${told}` : told
  // The excerpt of the Dockerfile: `Dockerfile:3` above a rule.
  const at = /^(\S.*):(\d+)\r?\n-{8,}$/m.exec(text)
  const code =
    /did not complete successfully: exit code: (\d+)/.exec(step?.error ?? '') ??
    /did not complete successfully: exit code: (\d+)/.exec(reason)
  return {
    reason:
      reason.trim() ||
      `docker-buildx ended ${exit.error ? `with ${exit.error.message}` : exit.signal ? `by ${exit.signal}` : `with code ${exit.code} and no error`}`,
    step,
    line: at ? Number(at[2]) : undefined,
    exitCode: code ? Number(code[1]) : undefined,
    ids: {
      ...(step && !step.internal ? { step: step.name } : {}),
      ...(at ? { line: at[2]! } : {}),
      ...(code ? { exit_code: code[1]! } : {}),
    },
  }
}

function diskFull(evidence: Evidence, { dataRoot, freeBytes }: BuildxEnd): BakeError {
  const free = `${Math.floor((freeBytes ?? 0) / 1024 / 1024)} MiB`
  return unavailable(
    'disk_full',
    withTail(`the disk under the Docker engine is full (${free} free), and ${evidence.step?.name ?? 'a step'} failed`, evidence),
    {
      next: `free space below ${dataRoot} (docker system df; docker buildx prune), then bake retry`,
      ids: evidence.ids,
    },
  )
}

/** A registry says 500 for a full disk too; those on this machine can be asked why. */
async function refine(error: BakeError, { push }: BuildxEnd): Promise<BakeError> {
  const [reference] = push
  if (error.code !== 'registry_error' || reference === undefined || !(await registryIsFull(reference))) return error
  return unavailable('registry_full', `the registry has no space left: ${error.message}`, {
    next: 'free space on the registry’s disk, then bake retry',
    ids: error.ids,
    cause: error,
  })
}
