/** Small writes are joined up to this size: two million lines in two million system calls take longer than their build. */
const BATCH_CHARS = 64 * 1024
/** A reader that is this far behind loses log lines; all of them are in the ledger. Well over what one log chunk holds, so that whoever awaits `settled` loses none. */
const MAX_BEHIND_BYTES = 32 * 1024 * 1024

export interface Writer {
  /** A line that must arrive. */
  line(text: string): void
  /** A line of a build's log: left out, and counted, while the reader is too far behind. */
  log(text: string): void
  /** Hands everything over to the stream. */
  flush(): void
  /** Resolves when the reader has caught up: whoever produces many lines waits here between portions. */
  settled(): Promise<void>
}

/**
 * Lines to a pipe or file in bounded memory: Node keeps whatever a slow reader of a pipe has not taken yet.
 * @param skipped what is written in place of `n` lines that were left out.
 */
export function lineWriter(stream: NodeJS.WriteStream, skipped: (n: number) => string): Writer {
  let [batch, scheduled, lost, broken] = ['', false, 0, false]
  stream.once('error', () => {
    broken = true
  })
  const flush = () => {
    if (batch !== '') stream.write(batch)
    batch = ''
  }
  const add = (text: string) => {
    batch += `${text}\n`
    if (batch.length >= BATCH_CHARS) flush()
    else if (!scheduled) {
      scheduled = true
      setImmediate(() => {
        scheduled = false
        flush()
      })
    }
  }
  const line = (text: string) => {
    if (lost > 0) add(skipped(lost))
    lost = 0
    add(text)
  }
  return {
    line,
    log: (text) => (stream.writableLength > MAX_BEHIND_BYTES ? void lost++ : line(text)),
    flush,
    settled: async () => {
      flush()
      if (!broken && stream.writableNeedDrain) await drained(stream)
    },
  }
}

/** The next `drain`, or the end of the stream: one that broke never drains. */
const drained = (stream: NodeJS.WriteStream): Promise<void> =>
  new Promise((resolve) => {
    const events = ['drain', 'error', 'close']
    const settle = () => {
      for (const event of events) stream.off(event, settle)
      resolve()
    }
    for (const event of events) stream.on(event, settle)
  })
