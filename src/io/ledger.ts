/** Where records live: a directory on one machine, an S3 bucket on AWS. Keys are `/`-separated; documents are small JSON objects. */
export interface Ledger {
  /** Stores `document` only if `key` is free. True: it is ours now, also when the answer to the first try was lost. False: the key existed. */
  create(key: string, document: object): Promise<boolean>
  /** Stores or replaces, atomically for readers. */
  put(key: string, document: object): Promise<void>
  /** The parsed JSON, undefined when there is none. Throws `ledger_damaged` (world's) when it isn't JSON. */
  get(key: string): Promise<unknown>
  /** Keys that start with `prefix`, ascending by code unit; those after `after`, at most `limit` of them. */
  list(prefix: string, options?: { after?: string; limit?: number }): Promise<string[]>
  /** Stores chunk `n` of the log `prefix`; chunks are numbered from 0 by their only writer. */
  append(prefix: string, n: number, bytes: Uint8Array): Promise<void>
  /** Chunk `n` of the log `prefix`, undefined when there is none (yet). */
  chunk(prefix: string, n: number): Promise<Uint8Array | undefined>
  /** Sets the beat of `key` to the ledger's now. */
  touch(key: string): Promise<void>
  /** Milliseconds since `key` was touched, by the ledger's own clock; undefined when it never was. */
  age(key: string): Promise<number | undefined>
}
