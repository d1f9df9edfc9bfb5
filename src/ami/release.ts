import { BakeError, refused } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { keys, releaseNameProblem } from '../names.ts'
import type { Release } from './machine.ts'
import { type ReleaseDocument, readRelease } from './records.ts'

export interface ReleaseAsk {
  /** A release's name: a git tag, unless `sha` says which commit it is. */
  release?: string | undefined
  /** A commit, 4 or more digits. */
  sha?: string | undefined
  /** Which of the release's machine images: 0 is `machine` itself, n the nth of `machine.also`. 0 unless told. */
  variant?: number
}

/** What resolving needs of a checkout. */
export interface Commits {
  resolve(what: { sha?: string; tag?: string }): Promise<{ commit: string }>
}

/** What a release without a tag is called. */
const OF_COMMIT = /^sha-([0-9a-f]{12})$/

/** Throws bad_release (exit 2). */
export function checkReleaseName(name: string): void {
  const why = releaseNameProblem(name)
  if (why === undefined) return
  throw refused('bad_release', `${JSON.stringify(name.slice(0, 150))} is no release name: ${why}`, {
    next: 'git tag --list    shows the names that there are',
  })
}

export interface ResolvedRelease extends Release {
  /** What it was recorded as, if it was. */
  recorded: ReleaseDocument | undefined
}

/**
 * The commit of a release: its git tag's, or with `sha` that one; `sha` alone makes a name of it. A release that was recorded stays what it was: another
 * commit of the same name is refused. Throws (exit 2) release_missing, bad_release, release_moved, or what the checkout says of tag and commit.
 */
export async function resolveRelease(ask: ReleaseAsk, commits: Commits, ledger: Ledger): Promise<ResolvedRelease> {
  const { release, sha } = ask
  if (release !== undefined) checkReleaseName(release)
  if (sha !== undefined) {
    const { commit } = await commits.resolve({ sha })
    const name = release ?? `sha-${commit.slice(0, 12)}`
    return agreed(name, commit, await readRelease(ledger, name))
  }
  if (release === undefined)
    throw refused('release_missing', 'no release was named', {
      next: 'give --release with a git tag, or --sha with a commit',
    })
  const [tagged, recorded] = await Promise.allSettled([commits.resolve({ tag: release }), readRelease(ledger, release)])
  if (recorded.status === 'rejected') throw recorded.reason
  if (tagged.status === 'fulfilled') return agreed(release, tagged.value.commit, recorded.value)
  // A checkout without its tags, and releases that never had one.
  if (!(recorded.value && isUnknown(tagged.reason))) throw tagged.reason
  return { name: release, commit: recorded.value.commit, recorded: recorded.value }
}

const isUnknown = (error: unknown): boolean => error instanceof BakeError && error.code === 'unknown_ref'

function agreed(name: string, commit: string, recorded: ReleaseDocument | undefined): ResolvedRelease {
  const digits = OF_COMMIT.exec(name)?.[1]
  if (digits !== undefined && !commit.startsWith(digits))
    throw refused('bad_release', `release ${name} can only be commit ${digits}, not ${commit}`, {
      next: 'give it another name: sha-… is what releases without a name are called',
      ids: { release: name, commit },
    })
  if (recorded !== undefined && recorded.commit !== commit) throw moved(recorded, commit)
  return { name, commit, recorded }
}

const moved = ({ name, commit }: ReleaseDocument, now: string): BakeError =>
  refused('release_moved', `release ${name} is commit ${commit}, and now it would be ${now}`, {
    next: `a release never changes: give the other commit a name of its own (git tag NAME ${now.slice(0, 12)}), or move the tag back (git tag -f ${name} ${commit.slice(0, 12)})`,
    ids: { release: name, recorded: commit, commit: now },
  })

/** Records a release, once: what is in the ledger afterwards, which somebody else may have put there first. Throws release_moved (exit 2). */
export async function recordRelease(document: ReleaseDocument, ledger: Ledger): Promise<ReleaseDocument> {
  // Reading is cheaper, and mostly it is there.
  let theirs = await readRelease(ledger, document.name)
  if (!theirs && (await ledger.create(keys.release(document.name), { ...document, nonce: crypto.randomUUID() }))) return document
  theirs ??= await readRelease(ledger, document.name)
  if (theirs === undefined) return document
  if (theirs.commit !== document.commit) throw moved(theirs, document.commit)
  return theirs
}
