import { randomUUID } from 'node:crypto'
import { invalid, isWhole } from './ebs-rules.ts'
import { BLOCK, type EbsStore, type StoredSnapshot } from './ebs-store.ts'

/** How long a block token is good for. */
const TOKENS_MS = 3_600_000

export interface EbsReply {
  status: number
  headers?: Record<string, string>
  body?: Buffer | object
}

/** Part of the stand-in for the EBS direct APIs (ebs-direct.ts): API_ListSnapshotBlocks, API_ListChangedBlocks, API_GetSnapshotBlock. */
export class EbsReads {
  readonly #store: EbsStore
  /** By block token: whose block it is, and until when. */
  readonly #tokens = new Map<string, { at: string; until: number }>()
  /** By page token: what is left. */
  readonly #lists = new Map<string, { of: string; rest: object[] }>()

  constructor(store: EbsStore) {
    this.#store = store
  }

  snapshotBlocks(snapshot: StoredSnapshot, query: URLSearchParams): EbsReply {
    return this.#page(snapshot, query, 'Blocks', () =>
      sorted(snapshot.blocks.keys()).map((index) => ({ BlockIndex: index, BlockToken: this.#token(snapshot, index) })),
    )
  }

  /** "Different from another snapshot of the same volume/snapshot lineage." */
  changedBlocks(first: StoredSnapshot, second: StoredSnapshot, query: URLSearchParams): EbsReply {
    if (!first.lineage.includes(second.id) && !second.lineage.includes(first.id))
      throw invalid('The snapshots are of different lineages', 'UNRELATED_SNAPSHOTS')
    const indexes = sorted(new Set([...first.blocks.keys(), ...second.blocks.keys()]))
    const changed = indexes.filter((index) => first.blocks.get(index) !== second.blocks.get(index))
    return this.#page(second, query, 'ChangedBlocks', () =>
      changed.map((index) => ({
        BlockIndex: index,
        ...(first.blocks.has(index) && { FirstBlockToken: this.#token(first, index) }),
        ...(second.blocks.has(index) && { SecondBlockToken: this.#token(second, index) }),
      })),
    )
  }

  async block(snapshot: StoredSnapshot, index: number, query: URLSearchParams): Promise<EbsReply> {
    const token = this.#tokens.get(query.get('blockToken') ?? '')
    if (token?.at !== `${snapshot.region} ${snapshot.id} ${index}` || this.#store.now() > token.until)
      throw invalid('The block token is not of this block, or too old', 'INVALID_BLOCK_TOKEN')
    const hash = snapshot.blocks.get(index)
    if (hash === undefined) throw invalid(`there is no block ${index}`, 'INVALID_BLOCK')
    const checksum = Buffer.from(hash, 'hex').toString('base64')
    const headers = { 'x-amz-data-length': String(BLOCK), 'x-amz-checksum': checksum, 'x-amz-checksum-algorithm': 'SHA256' }
    return { status: 200, headers, body: await this.#store.read(hash) }
  }

  #token({ region, id }: StoredSnapshot, index: number): string {
    const token = Buffer.from(randomUUID()).toString('base64')
    this.#tokens.set(token, { at: `${region} ${id} ${index}`, until: this.#store.now() + TOKENS_MS })
    return token
  }

  /** `maxResults`: 100 to 10,000; "the request can return less blocks". */
  #page(snapshot: StoredSnapshot, query: URLSearchParams, name: string, all: () => { BlockIndex: number }[]): EbsReply {
    if (snapshot.state !== 'completed') throw invalid(`${snapshot.id} is ${snapshot.state}`, 'INVALID_SNAPSHOT_ID')
    const most = Number(query.get('maxResults') ?? 10_000)
    if (!isWhole(most, 100, 10_000)) throw invalid(`maxResults ${most}`)
    const [next, from] = [query.get('pageToken'), Number(query.get('startingBlockIndex') ?? 0)]
    const left = next === null ? undefined : this.#lists.get(next)
    if (next !== null && left?.of !== snapshot.id) throw invalid('NextToken', 'INVALID_PAGE_TOKEN')
    const items = left?.rest ?? all().filter(({ BlockIndex }) => BlockIndex >= from)
    const rest = items.slice(most)
    const token = rest.length > 0 ? randomUUID() : undefined
    if (token !== undefined) this.#lists.set(token, { of: snapshot.id, rest })
    const expires = (this.#store.now() + TOKENS_MS) / 1000
    const common = { VolumeSize: snapshot.volumeGib, BlockSize: BLOCK, ExpiryTime: expires }
    return { status: 200, body: { [name]: items.slice(0, most), ...common, ...(token && { NextToken: token }) } }
  }
}

const sorted = (indexes: Iterable<number>): number[] => [...indexes].sort((a, b) => a - b)
