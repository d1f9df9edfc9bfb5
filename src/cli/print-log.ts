import type { StoryEvent } from '../events.ts'
import type { Ledger } from '../io/ledger.ts'
import { followBuild, logOf } from '../jobs/follow.ts'
import { readLog } from '../jobs/logs.ts'
import type { BuildRecord } from '../jobs/records.ts'
import { eventText } from './lines.ts'
import { hasColours, palette } from './style.ts'
import { lineWriter } from './writer.ts'

const EVENTS_BETWEEN_PAUSES = 500

/** Writes a build's log to `stream`, what is there or (follow) to its end. The record as it was last seen. */
export async function printLog(
  record: BuildRecord,
  project: { ledger: Ledger; pollMs: number },
  options: { follow: boolean; json: boolean; signal: AbortSignal; stream: NodeJS.WriteStream },
): Promise<BuildRecord> {
  const paint = palette(hasColours(options.stream))
  const writer = lineWriter(options.stream, (n) => `… ${n} lines left out`)
  const print = (event: StoryEvent) => {
    const text = options.json ? JSON.stringify(event) : eventText(event, paint)
    if (text !== undefined) writer.line(text)
  }
  let last = record
  if (options.follow) {
    const followed = await followBuild(record.build, project.ledger, {
      ...options,
      pollMs: project.pollMs,
      onEvent: print,
      settled: writer.settled,
    }).catch((error: unknown) => {
      if (!options.signal.aborted) throw error
    })
    last = followed ?? record
  } else {
    const log = logOf(record)
    let printed = 0
    if (log !== undefined) {
      for await (const event of readLog(project.ledger, log)) {
        print(event)
        if (++printed % EVENTS_BETWEEN_PAUSES === 0) await writer.settled()
        if (options.signal.aborted) break
      }
    }
  }
  if (!options.json && last.failure) writer.line(`${paint.red(`${last.status}:`)} ${last.failure.message}`)
  writer.flush()
  return last
}
