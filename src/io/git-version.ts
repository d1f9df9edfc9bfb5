import { unavailable } from '../errors.ts'

/** 2.29 brought `fetch --no-write-fetch-head` and --no-auto-maintenance. */
const OLDEST = [2, 29] as const

/** Throws git_too_old (world's) when the trace in `stderr` names a git older than 2.29, or names none, as those before 2.22 did. */
export function checkGitVersion(stderr: string): void {
  const version = /"event":"version".*?"exe":"(\d+)\.(\d+)[^"]*"/.exec(stderr)
  const [major, minor] = [Number(version?.[1] ?? 0), Number(version?.[2] ?? 0)]
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return
  throw unavailable(
    'git_too_old',
    `git ${version === null ? 'older than 2.22' : `${major}.${minor}`} is too old: bake needs ${OLDEST.join('.')} or newer`,
    {
      next: 'upgrade git (Debian: apt-get install -t bookworm-backports git; macOS: brew install git)',
    },
  )
}
