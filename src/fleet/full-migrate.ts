import { BakeError } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { CommandResult } from '../io/ssm-commands.ts'
import { ENDED, lastWords, SHELL_DOCUMENT, shell } from './full-check.ts'
import type { Outcome } from './full-record.ts'
import { GivenUp, type Run } from './full-run.ts'
import { migrateStopped, stoppedBy } from './full-state.ts'
import { migrateLine, UNKNOWN_STATUS } from './migrate-line.ts'

/** The longest that Systems Manager lets a command run: 48 hours. */
const MIGRATE_SECONDS = 172_800
/** A command is not always listed as soon as it is sent. */
const LOOKS_FOR_SENT = 5
/** Sends whose answers got lost, one after the other. */
const MOST_SENDS = 2

/** Runs `migrate` on one new instance, once whatever happens. Throws migrate_failed or migrate_unknown (exit 3): only a person knows what holds then. */
export async function migrateOnce(run: Run): Promise<void> {
  if (run.full.migrate === undefined) return
  const [instance = ''] = run.fresh
  await run.step('migrating', async () => {}, { step: 'migrating', instance })
  if (!run.at.has('migrated')) {
    const outcome = await outcomeOf(run)
    await failpoint('full-migrate-ended')
    await run.record({ step: 'migrated', ...outcome })
  }
  if (stoppedBy(run.at) !== undefined) throw migrateStopped(run.at)
}

async function outcomeOf(run: Run): Promise<Outcome> {
  const { instance } = run.at.last('migrating')!
  const id = await sent(run, instance)
  if (typeof id !== 'string') return id
  let ended: CommandResult | undefined
  let gone = false
  const waiting = { what: 'migrate', deadlineMs: MIGRATE_SECONDS * 1000 }
  await run
    .until(waiting, async () => {
      const seen = await run.world.commands.result(id, instance)
      if (ENDED.has(seen.status)) ended = seen
      // Its command would be "in progress" for two days.
      else gone = !(await run.group()).instances.some((each) => each.id === instance && each.lifecycle === 'InService')
      return ended !== undefined || gone ? true : `${instance} says ${seen.status}`
    })
    .catch((error: unknown) => {
      if (!(error instanceof GivenUp)) throw error
    })
  if (ended === undefined) return { outcome: 'unknown', reason: gone ? `${instance} is gone` : 'it did not end' }
  return judge(ended)
}

function judge({ status, details, code, stdout, stderr }: CommandResult): Outcome {
  if (status === 'Success') return { outcome: 'done' }
  const said = lastWords(stdout, stderr)
  const reason = [status === 'Failed' ? `exit status ${code}` : details || status, ...(said === '' ? [] : [said])].join(': ')
  // Who was cancelled, not delivered or not ended in time may have changed everything or nothing.
  return { outcome: status === 'Failed' && code > 0 && code !== UNKNOWN_STATUS ? 'failed' : 'unknown', reason }
}

/**
 * The command's id, or why there is none: found by its comment, else sent. SendCommand has no client token, so it may be sent twice when an answer got lost: the instance runs
 * it once (migrate-line.ts).
 */
async function sent(run: Run, instance: string): Promise<string | Outcome> {
  const { commands } = run.world
  const { migrate } = run.full
  const comment = `bake migrate ${migrate!.lock}`
  const line = migrateLine(migrate!)
  for (let sends = 0; sends < MOST_SENDS; sends++) {
    const found = await lookFor(run, comment)
    if (found !== undefined) return found
    run.check()
    try {
      const [id = ''] = await commands.send({
        ...shell(line, MIGRATE_SECONDS),
        instances: [instance],
        comment,
        repeatable: false,
      })
      await failpoint('full-migrate-sent')
      return id
    } catch (error) {
      if (!(error instanceof BakeError)) throw error
      // Of an instance that is gone nobody knows what it did with an earlier one.
      if (error.code === 'ec2_refused') return { outcome: 'unknown', reason: error.message }
      if (error.code !== 'ec2_unreachable') throw error
    }
  }
  return (await lookFor(run, comment)) ?? { outcome: 'unknown', reason: 'Systems Manager answers none of the commands' }
}

async function lookFor(run: Run, comment: string): Promise<string | undefined> {
  const { commands, sleep, pollMs, signal } = run.world
  for (let looks = 0; looks < LOOKS_FOR_SENT; looks++) {
    if (looks > 0) await sleep(pollMs, signal)
    const found = await commands.find({ document: SHELL_DOCUMENT, comment, since: run.document.at })
    if (found !== undefined) return found
  }
  return undefined
}
