import { type BakeError, refused, unavailable } from '../errors.ts'
import { localPath, redactUrl } from './sources.ts'

/**
 * Why a `git fetch` failed. git has exit code 128 for everything, so its messages (in LC_ALL=C) decide; what isn't recognised counts as a source out of reach.
 * `gone`: the branch isn't there (any more). `unadvertised`: the server gives no commits by id. `locked`: somebody else is writing this mirror.
 */
export type FetchFailure = 'gone' | 'unadvertised' | 'locked' | BakeError

export function fetchFailure(
  stderr: string,
  request: { source: string; commit: string; branch?: string | undefined },
): FetchFailure {
  const { source, commit } = request
  const ids = { repository: redactUrl(source), commit }
  if (/couldn't find remote ref/.test(stderr)) return stderr.includes(commit) ? commitNotFound(source, commit) : 'gone'
  if (/not our ref|no such remote ref|upload-pack: not our/.test(stderr)) return commitNotFound(source, commit)
  if (/unadvertised object/.test(stderr)) return 'unadvertised'
  if (/No space left on device|Disk quota exceeded/.test(stderr))
    return unavailable('disk_full', 'no space left for the copy of the repository', { next: 'df -h; free some space', ids })
  if (
    /cannot lock ref|unable to update local ref|Unable to create '.*\.lock'|reference already exists|shallow file has changed/.test(
      stderr,
    )
  )
    return 'locked'
  if (/detected dubious ownership/.test(stderr)) {
    const path = localPath(source)
    const next = `run bake as the owner of ${path}, or: git config --global --add safe.directory '${path}'`
    return unavailable('repository_not_trusted', `${path} belongs to another user, so git doesn't read it`, { next, ids })
  }
  if (
    /Authentication failed|could not read (?:Username|Password)|Permission denied|Host key verification failed|terminal prompts disabled/.test(
      stderr,
    )
  ) {
    const next = 'give this machine access: an SSH key in its agent, a known host key, or a git credential helper'
    return unavailable('repository_unreachable', `${redactUrl(source)} doesn't let this machine in: ${reason(stderr)}`, {
      next,
      ids,
    })
  }
  return unavailable('repository_unreachable', `can't fetch from ${redactUrl(source)}: ${reason(stderr)}`, {
    next: `check the address and the network: git ls-remote '${redactUrl(source)}'`,
    ids,
  })
}

export const commitNotFound = (source: string, commit: string): BakeError =>
  refused('commit_not_found', `commit ${commit} is not in ${redactUrl(source)}`, {
    next: 'push it first (git push), then run the command again',
    ids: { repository: redactUrl(source), commit },
  })

/** The first line that names a cause; the last ones are general advice. */
function reason(stderr: string): string {
  const lines = redactUrl(stderr)
    .split('\n')
    .filter((line) => line.trim() !== '')
  const line =
    lines.find((text) => /^(?:fatal|error|remote|ssh|.*Permission denied|Host key)/.test(text)) ??
    lines.at(-1) ??
    'git said nothing'
  return line.replace(/^(?:fatal|error): /, '').trim()
}
