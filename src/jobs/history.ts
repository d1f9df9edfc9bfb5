import { refused } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { BUILD_ID_PATTERN, keys } from '../names.ts'
import { type BuildRecord, buildRecordSchema, readBuild } from './records.ts'

export interface BuildFilter {
  image?: string | undefined
  branch?: string | undefined
  status?: string | undefined
  /** Full or short. */
  commit?: string | undefined
  limit: number
}

/** Records read at once while filtering. */
const READ_AT_ONCE = 256
/** Names listed at once while filtering: a page of a directory of 100,000 costs as much as reading all its names. */
const FILTERED_PAGE = 20_000

/** Builds that match, newest first: ids sort that way, so one list call finds a page. A damaged record is passed over and counted. */
export async function listBuilds(ledger: Ledger, filter: BuildFilter): Promise<{ builds: BuildRecord[]; damaged: number }> {
  const builds: BuildRecord[] = []
  let damaged = 0
  const filtered = filter.image ?? filter.branch ?? filter.status ?? filter.commit
  const page = filtered === undefined ? filter.limit : FILTERED_PAGE
  for (let after: string | undefined; builds.length < filter.limit; ) {
    const names = await ledger.list(keys.builds, { limit: page, ...(after === undefined ? {} : { after }) })
    for (let at = 0; at < names.length && builds.length < filter.limit; at += READ_AT_ONCE) {
      const some = names.slice(at, at + READ_AT_ONCE)
      const values = await Promise.all(some.map((name) => ledger.get(name).catch(() => undefined)))
      for (const value of values) {
        const parsed = buildRecordSchema.safeParse(value)
        if (!parsed.success) damaged++
        else if (builds.length < filter.limit && matches(parsed.data, filter)) builds.push(parsed.data)
      }
    }
    if (names.length < page) break
    after = names.at(-1)
  }
  return { builds, damaged }
}

const matches = (record: BuildRecord, { image, branch, status, commit }: BuildFilter): boolean =>
  (image === undefined || record.image === image) &&
  (branch === undefined || record.branch === branch) &&
  (status === undefined || record.status === status) &&
  (commit === undefined || record.commit.startsWith(commit))

/** A build by its id, by the beginning of it, or `latest`. Throws bad_build_id, unknown_build or ambiguous_build (exit 2). */
export async function findBuild(ledger: Ledger, id: string): Promise<BuildRecord> {
  const next = 'bake builds    lists them'
  const given = id === 'latest' ? '' : id.toLowerCase()
  if (!/^[0-9a-z-]{0,16}$/.test(given)) throw refused('bad_build_id', `${JSON.stringify(id)} is no build id`, { next })
  if (BUILD_ID_PATTERN.test(given)) {
    const record = await readBuild(ledger, given)
    if (record) return record
    throw refused('unknown_build', `there is no build ${given}`, { next })
  }
  const found = await ledger.list(keys.build(given), { limit: 2 })
  if (found.length === 0)
    throw refused('unknown_build', id === 'latest' ? 'there are no builds yet' : `no build id begins with ${given}`, { next })
  if (found.length > 1 && id !== 'latest') throw refused('ambiguous_build', `several build ids begin with ${given}`, { next })
  const record = await readBuild(ledger, found[0]!.slice(keys.builds.length))
  if (record) return record
  throw refused('unknown_build', `build ${id} is gone`, { next })
}
