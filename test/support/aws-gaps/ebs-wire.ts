import { createHash } from 'node:crypto'
import { EbsRefusal } from './ebs-rules.ts'

export interface EbsCall {
  action: (typeof ROUTES)[number][0]
  region: string
  snapshot: string
  index: number
}

/**
 * What becomes of a call. A code: refused with it. `reset`: cut before anything is done. `late`: carried out, and cut before the answer. `forgotten`: answered as if it
 * were carried out.
 */
export type EbsFault = ConstructorParameters<typeof EbsRefusal>[0] | 'reset' | 'late' | 'forgotten'

/** Method and path of each action. */
export const ROUTES = [
  ['StartSnapshot', 'POST', /^\/snapshots$/],
  ['CompleteSnapshot', 'POST', /^\/snapshots\/completion\/(snap-[0-9a-f]+)$/],
  ['PutSnapshotBlock', 'PUT', /^\/snapshots\/(snap-[0-9a-f]+)\/blocks\/(\d+)$/],
  ['GetSnapshotBlock', 'GET', /^\/snapshots\/(snap-[0-9a-f]+)\/blocks\/(\d+)$/],
  ['ListSnapshotBlocks', 'GET', /^\/snapshots\/(snap-[0-9a-f]+)\/blocks$/],
  ['ListChangedBlocks', 'GET', /^\/snapshots\/(snap-[0-9a-f]+)\/changedblocks$/],
] as const

/** SHA-256 of the blocks' checksums in the order of their indexes: "LINEAR". */
export const aggregated = (written: Map<number, string>): string => {
  const all = createHash('sha256')
  for (const [, hash] of [...written].sort(([a], [b]) => a - b)) all.update(Buffer.from(hash, 'hex'))
  return all.digest('base64')
}

/** For moto, which reads region and service in it and checks nothing. */
export const scope = (region: string, service: string): string =>
  `AWS4-HMAC-SHA256 Credential=test/20260101/${region}/${service}/aws4_request, SignedHeaders=host, Signature=0`

/** What an account may ask for in a second. What it doesn't use within a tenth of one is lost. */
export class Allowance {
  #left = 0
  #at = 0

  /** Throws RequestThrottledException. */
  take(perSecond: number): void {
    if (perSecond === Number.POSITIVE_INFINITY) return
    const now = performance.now()
    this.#left = Math.min(perSecond / 10, this.#left + ((now - this.#at) / 1000) * perSecond)
    this.#at = now
    if (this.#left < 1) throw new EbsRefusal('RequestThrottledException', 'Too many requests', 'ACCOUNT_THROTTLED')
    this.#left--
  }
}
