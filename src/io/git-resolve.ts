import { refused } from '../errors.ts'
import type { GitRepository } from './git-repository.ts'

/** The commit that `sha`, 4 to 64 hex digits, stands for. Throws bad_sha, unknown_commit or ambiguous_commit (the user's). */
export async function commitOfSha(repository: GitRepository, sha: string): Promise<string> {
  const prefix = sha.toLowerCase()
  if (!/^[0-9a-f]{4,64}$/.test(prefix))
    throw refused('bad_sha', `${JSON.stringify(sha)} is not a commit id: 4 to 64 hex digits`, {
      next: 'for a branch or a tag use --branch or --tag',
    })
  const commits = await commitsThatStart(repository, prefix)
  const [first] = commits.keys()
  if (first !== undefined && commits.size === 1) return first
  if (first === undefined)
    throw refused('unknown_commit', `commit ${prefix} is not in this checkout`, {
      next: 'git fetch --all (a shallow clone: git fetch --unshallow), or check the id with git log',
      ids: { commit: prefix },
    })
  const candidates = [...commits].map(([commit, subject]) => `  ${commit.slice(0, 12)} ${subject}`)
  throw refused('ambiguous_commit', `commit ${prefix} could be any of\n${candidates.join('\n')}`, {
    next: 'give more digits',
    ids: { commit: prefix },
  })
}

/** Commits, also through annotated tags, by id. Ids are asked for as objects, never as revisions: a branch may be called `dead`. */
async function commitsThatStart(repository: GitRepository, prefix: string): Promise<Map<string, string>> {
  const isFull = prefix.length === 40 || prefix.length === 64
  const ids = isFull ? [prefix] : lines((await repository.run(['rev-parse', `--disambiguate=${prefix}`])).stdout)
  const objects = await Promise.all(ids.map((id) => repository.cat.get(`${id}^{commit}`)))
  return new Map(objects.filter((object) => object !== undefined).map(({ oid, bytes }) => [oid, subjectOf(bytes)]))
}

const subjectOf = (commit: Buffer): string => {
  const text = commit.toString('utf8')
  const message = text.indexOf('\n\n')
  return message < 0 ? '' : (text.slice(message + 2).split('\n')[0] ?? '')
}

/** The commit that a branch or tag of this checkout points to, and its short name. Throws bad_ref or unknown_ref (the user's). */
export async function commitOfRef(
  repository: GitRepository,
  kind: 'branch' | 'tag',
  given: string,
): Promise<{ commit: string; branch: string }> {
  const root = kind === 'branch' ? 'refs/heads/' : 'refs/tags/'
  const name = given.startsWith(root) ? given.slice(root.length) : given
  // A NUL never reaches git: Node refuses it in an argument.
  const legal =
    !name.startsWith('-') && !name.includes('\0') && (await repository.run(['check-ref-format', root + name], [0, 1])).code === 0
  if (!legal)
    throw refused('bad_ref', `${JSON.stringify(given)} is not a legal ${kind} name`, {
      next: `git ${kind} --list shows what there is`,
    })
  // Exactly this ref: cat-file's rules would also find refs/heads/<refs/heads/name>.
  const found = await repository.run(['show-ref', '--verify', '--hash', '--', root + name], [0, 1, 128])
  const oid = lines(found.stdout)[0]
  if (oid === undefined) throw await unknownRef(repository, kind, root, name)
  const object = await repository.cat.get(`${oid}^{commit}`)
  if (object === undefined)
    throw refused('bad_ref', `${kind} ${JSON.stringify(name)} points to no commit`, {
      next: `git cat-file -t ${oid}`,
      ids: { oid },
    })
  return { commit: object.oid, branch: name }
}

/** How many names a suggestion holds: more is a list, which git prints itself. */
const SUGGESTIONS = 3

async function unknownRef(repository: GitRepository, kind: 'branch' | 'tag', root: string, name: string) {
  const args = ['for-each-ref', '--format=%(refname)', root, ...(kind === 'branch' ? ['refs/remotes/'] : [])]
  const refs = lines((await repository.run(args)).stdout)
  const remote = refs
    .find((ref) => /^refs\/remotes\/[^/]+\//.test(ref) && ref.replace(/^refs\/remotes\/[^/]+\//, '') === name)
    ?.split('/')[2]
  const { distance } = await import('fastest-levenshtein')
  const near = refs
    .filter((ref) => ref.startsWith(root))
    .map((ref) => ref.slice(root.length))
    .map((known) => ({ known, far: name.endsWith(`/${known}`) ? 0 : distance(known.toLowerCase(), name.toLowerCase()) }))
    .filter(({ known, far }) => far <= Math.max(2, Math.ceil(known.length / 3)))
    .sort((a, b) => a.far - b.far || a.known.localeCompare(b.known))
    .slice(0, SUGGESTIONS)
    .map(({ known }) => known)
  const next =
    remote !== undefined
      ? `${remote} has it: git branch --track '${name}' '${remote}/${name}'`
      : near.length > 0
        ? `did you mean ${near.join(', ')}?`
        : `git ${kind} --list shows what there is; git fetch brings what the remote has`
  return refused('unknown_ref', `this checkout has no ${kind} ${JSON.stringify(name)}`, { next, ids: { [kind]: name } })
}

const lines = (output: Buffer): string[] =>
  output
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '')
