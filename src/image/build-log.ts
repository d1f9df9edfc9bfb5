import type { StoryEvent } from '../events.ts'
import { LogWriter } from '../jobs/logs.ts'
import { Redactor } from '../jobs/redact.ts'
import { keys } from '../names.ts'
import type { ImageWorld } from './world.ts'

/** A live view redraws about this often. */
const LEAST_FLUSH_MS = 100

/** The log of one claim: what is told to it loses its secrets on the way. Lines that the ledger could not take are the worker's problem to report. */
export function openBuildLog(build: string, claim: number, world: ImageWorld) {
  const redactor = new Redactor([])
  const log = new LogWriter(world.ledger, keys.log(build, claim), {
    redact: redactor,
    flushMs: Math.max(LEAST_FLUSH_MS, world.pollMs),
  })
  return {
    redactor,
    tell: (event: StoryEvent) => log.write(event),
    async [Symbol.asyncDispose]() {
      await log.close()
      if (log.incomplete !== undefined) world.onProblem(`build ${build}: ${log.incomplete}`)
    },
  }
}
