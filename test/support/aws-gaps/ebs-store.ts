import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-elements.html, "Block indexes". */
export const BLOCK = 524_288
export const BLOCKS_PER_GIB = 2 ** 30 / BLOCK

/** A snapshot of the stand-in. Of one that EC2 made, only what a test said of it is known. */
export interface StoredSnapshot {
  region: string
  id: string
  ownerId: string
  volumeGib: number
  state: 'pending' | 'completed' | 'error'
  stateMessage?: string
  parent?: string
  encrypted: boolean
  kmsKey?: string
  /** Ids of the snapshots that it descends from, the nearest last, itself included. */
  lineage: string[]
  /** What was put into it: index → SHA-256 of the block, 64 hex digits. */
  written: Map<number, string>
  /** With what it has from its ancestors, which keep nothing for it: a deleted parent's blocks stay its. */
  blocks: Map<number, string>
  startedAt: number
  touchedAt: number
  timeoutMs: number
  visibleAt: number
}

/**
 * Snapshots of the stand-in for the EBS direct APIs (ebs-direct.ts) and for EC2's side of them (ec2-snapshots.ts): who descends from whom, and their blocks, each
 * content once, in files.
 */
export class EbsStore implements AsyncDisposable {
  readonly account = '123456789012'
  /** How long a new snapshot "does not exist", ms. The document says nothing of it; up to two minutes were seen. */
  visibleAfterMs = 0
  /** How long CompleteSnapshot's workflow takes, ms. */
  completeAfterMs = 0
  /** Whether a wrong checksum or count is found by that workflow, which ends in `error`, or at once. */
  lateVerdict = false
  /** Regions in which EBS encryption by default is on. */
  readonly encryptedByDefault = new Set<string>()
  /** Keys beside the default one that may be used. */
  readonly kmsKeys = new Set<string>()
  now: () => number = Date.now
  readonly #snapshots = new Map<string, StoredSnapshot>()
  /** Most tests have no blocks. */
  #dir: Promise<string> | undefined

  #path = async (hash: string): Promise<string> => {
    this.#dir ??= mkdtemp(join(tmpdir(), 'bake-ebs-'))
    return join(await this.#dir, hash)
  }

  defaultKey(region: string): string {
    return `arn:aws:kms:${region}:${this.account}:key/00000000-0000-0000-0000-000000000000`
  }

  add(snapshot: Pick<StoredSnapshot, 'region' | 'id' | 'volumeGib'> & Partial<StoredSnapshot>): StoredSnapshot {
    const now = this.now()
    const added: StoredSnapshot = {
      ...{ ownerId: this.account, state: 'completed', encrypted: false, lineage: [snapshot.id] },
      ...{
        written: new Map(),
        blocks: new Map(),
        startedAt: now,
        touchedAt: now,
        timeoutMs: Number.POSITIVE_INFINITY,
        visibleAt: 0,
      },
      ...snapshot,
    }
    this.#snapshots.set(`${snapshot.region} ${snapshot.id}`, added)
    return added
  }

  get(region: string, id: string): StoredSnapshot | undefined {
    const found = this.#snapshots.get(`${region} ${id}`)
    if (found?.state === 'pending' && this.now() - found.touchedAt > found.timeoutMs) {
      found.state = 'error'
      found.stateMessage = 'The snapshot was cancelled: no block was written within the timeout'
    }
    return found
  }

  delete(region: string, id: string): void {
    this.#snapshots.delete(`${region} ${id}`)
  }

  all(region: string): StoredSnapshot[] {
    return [...this.#snapshots.values()].filter((snapshot) => snapshot.region === region)
  }

  /** A copy as CopyImage and CopySnapshot make one: a lineage of its own. */
  copy(from: StoredSnapshot, to: { region: string; id: string }, key: string | undefined): StoredSnapshot {
    const encrypted = from.encrypted || key !== undefined || this.encryptedByDefault.has(to.region)
    const { volumeGib } = from
    const kmsKey = encrypted ? (key ?? this.defaultKey(to.region)) : undefined
    const blocks = new Map(from.blocks)
    return this.add({ ...to, volumeGib, encrypted, ...(kmsKey && { kmsKey }), blocks, written: new Map(blocks) })
  }

  /** For a test: an existing snapshot's content. What isn't given is absent. */
  async fill(
    region: string,
    id: string,
    disk: { volumeGib: number; blocks: Map<number, Buffer> } & Partial<Omit<StoredSnapshot, 'blocks' | 'written'>>,
  ) {
    const blocks = new Map<number, string>()
    for (const [index, data] of disk.blocks) blocks.set(index, await this.keep(data))
    return this.add({ ...disk, region, id, blocks, written: new Map(blocks) })
  }

  async keep(data: Buffer): Promise<string> {
    const hash = createHash('sha256').update(data).digest('hex')
    await writeFile(await this.#path(hash), data, { flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
    return hash
  }

  async read(hash: string): Promise<Buffer> {
    return readFile(await this.#path(hash))
  }

  /** What an instance's volume has where the snapshot has nothing: "random data" when it is encrypted, zeros when it isn't. */
  absent({ encrypted }: StoredSnapshot): Buffer {
    return encrypted ? randomBytes(BLOCK) : Buffer.alloc(BLOCK)
  }

  async [Symbol.asyncDispose]() {
    if (this.#dir) await rm(await this.#dir, { recursive: true, force: true })
  }
}
