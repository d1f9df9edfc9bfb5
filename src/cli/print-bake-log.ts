import { setTimeout as sleep } from 'node:timers/promises'
import { findBake, isBaking } from '../ami/history.ts'
import { type BakeRecord, logOfBake, readBake } from '../ami/records.ts'
import type { Ledger } from '../io/ledger.ts'
import { followLog, readLog } from '../jobs/logs.ts'
import { eventText } from './lines.ts'
import { hasColours, palette } from './style.ts'
import { lineWriter } from './writer.ts'

/** Whoever was killed writes no end: looked for this often. */
const LIFE_MS = 1_000
const EVENTS_BETWEEN_PAUSES = 500

/**
 * Writes the log of the bake with this id (or the beginning of it) to `stream`, what is there or (follow) to its end. The record as it was last seen;
 * undefined when no bake is called so.
 */
export async function printBakeLog(
  id: string,
  { ledger, pollMs }: { ledger: Ledger; pollMs: number },
  options: { follow: boolean; json: boolean; signal: AbortSignal; stream: NodeJS.WriteStream },
): Promise<BakeRecord | undefined> {
  const record = await findBake(ledger, id)
  if (!record) return undefined
  const paint = palette(hasColours(options.stream))
  const writer = lineWriter(options.stream, (n) => `… ${n} lines left out`)
  const prefix = logOfBake(record)
  const over = new AbortController()
  const either = AbortSignal.any([options.signal, over.signal])
  const watching = options.follow ? untilOver(record, ledger, over) : undefined
  const events = options.follow ? followLog(ledger, prefix, { signal: either, pollMs }) : readLog(ledger, prefix)
  let printed = 0
  for await (const event of events) {
    const text = options.json ? JSON.stringify(event) : eventText(event, paint)
    if (text !== undefined) writer.line(text)
    if (++printed % EVENTS_BETWEEN_PAUSES === 0) await writer.settled()
    if (options.signal.aborted) break
  }
  over.abort()
  await watching
  const last = (await readBake(ledger, record.build)) ?? record
  if (!options.json && last.failure) writer.line(`${paint.red(`${last.status}:`)} ${last.failure.message}`)
  writer.flush()
  return last
}

/** Aborts `over` when the bake can't write any more. */
async function untilOver(record: BakeRecord, ledger: Ledger, over: AbortController): Promise<void> {
  while (!over.signal.aborted) {
    const now = (await readBake(ledger, record.build).catch(() => undefined)) ?? record
    if (!(await isBaking(now, ledger).catch(() => true))) over.abort()
    else await sleep(LIFE_MS, undefined, { signal: over.signal }).catch(() => {})
  }
}
