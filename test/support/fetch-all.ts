import { Mirror } from '../../src/io/mirror.ts'

/** A process of its own: `fetch-all.ts <mirror> <source> <commit…>` fetches them all at once. */
const [dir = '', source = '', ...commits] = process.argv.slice(2)
await using mirror = new Mirror(dir, { allowLocal: true })
const { signal } = new AbortController()
await Promise.all(commits.map((commit) => mirror.fetch({ source, commit, branch: 'main', signal })))
