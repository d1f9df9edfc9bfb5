import { BakeError } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { CommandResult } from '../io/ssm-commands.ts'
import { isCommandEnd, isRefused } from './aws-answers.ts'
import { lastWords } from './full-check.ts'
import type { Outcome } from './full-record.ts'
import { GivenUp, type Run } from './full-run.ts'
import { SHELL_DOCUMENT, shell } from './full-shell.ts'
import { migrateStopped, stoppedBy } from './full-state.ts'
import { migrateLine, UNKNOWN_STATUS } from './migrate-line.ts'

/** The longest that Systems Manager lets a command run: 48 hours. */
const MIGRATE_SECONDS = 172_800
/** A command is not always listed as soon as it is sent. */
const LOOKS_FOR_SENT = 5
/** Sends whose answers got lost, one after the other. */
const MOST_SENDS = 2
/** Looks in a row at which an instance doesn't run. */
const LOOKS_OF_GONE = 5
/** Restarts of an agent, and AWS refusing requests, pass. */
const TAKEN_MS = 30 * 60_000

/** Runs `migrate` on one new instance, once whatever happens. Throws migrate_failed or migrate_unknown (exit 3): only a person knows what holds then. */
export async function migrateOnce(run: Run): Promise<void> {
  if (run.full.migrate === undefined) return
  const [instance = ''] = run.fresh
  const before = run.at.has('migrating')
  await run.step('migrating', async () => {}, { step: 'migrating', instance })
  if (!run.at.has('migrated')) {
    const outcome = await outcomeOf(run, before)
    await failpoint('full-migrate-ended')
    await run.record({ step: 'migrated', ...outcome })
  }
  if (stoppedBy(run.at) !== undefined) throw migrateStopped(run.at)
}

/** `before`: another process, or this one earlier, may have sent it. */
async function outcomeOf(run: Run, before: boolean): Promise<Outcome> {
  const { instance } = run.at.last('migrating')!
  const isGone = goneOf(run, instance)
  const id = await sent(run, { instance, before, isGone })
  if (typeof id !== 'string') return id
  let ended: CommandResult | undefined
  let gone: string | undefined
  const waiting = { what: 'migrate', deadlineMs: MIGRATE_SECONDS * 1000 }
  await run
    .until(waiting, async () => {
      const seen = await run.world.commands.result(id, instance)
      if (isCommandEnd(seen.status)) ended = seen
      // Its command would be "in progress" for two days.
      else gone = await isGone()
      return ended !== undefined || gone !== undefined ? true : `${instance} says ${seen.status}`
    })
    .catch((error: unknown) => {
      if (!(error instanceof GivenUp)) throw error
    })
  return ended === undefined ? { outcome: 'unknown', reason: gone ?? 'it did not end' } : judge(ended)
}

/** Why nothing more is to come from an instance: EC2 said so, look after look. The group isn't asked: without HealthCheck it lists what is long dead. */
function goneOf(run: Run, instance: string): () => Promise<string | undefined> {
  let looks = 0
  return async () => {
    const state = (await run.world.instances.state(instance)) ?? 'not there'
    looks = state === 'running' ? 0 : looks + 1
    return looks >= LOOKS_OF_GONE ? `${instance} is ${state}` : undefined
  }
}

function judge({ status, details, code, stdout, stderr }: CommandResult): Outcome {
  if (status === 'Success') return { outcome: 'done' }
  const said = lastWords(stdout, stderr)
  const reason = [status === 'Failed' ? `exit status ${code}` : details || status, ...(said === '' ? [] : [said])].join(': ')
  // Who was cancelled, not delivered or not ended in time may have changed everything or nothing.
  return { outcome: status === 'Failed' && code > 0 && code !== UNKNOWN_STATUS ? 'failed' : 'unknown', reason }
}

/**
 * The command's id, or why there is none: found by its comment when it may have been sent, else sent. SendCommand has no client token, so it may be sent twice when an answer got
 * lost: the instance runs it once (migrate-line.ts). Throws GivenUp when an instance that runs never takes it.
 */
async function sent(
  run: Run,
  { instance, before, isGone }: { instance: string; before: boolean; isGone: () => Promise<string | undefined> },
): Promise<string | Outcome> {
  const { migrate } = run.full
  const comment = `bake migrate ${migrate!.lock}`
  const line = migrateLine(migrate!)
  let got: string | Outcome = ''
  let lost = 0
  await run.until({ what: 'migrate to be taken', deadlineMs: TAKEN_MS }, async () => {
    const found = before || lost > 0 ? await lookFor(run, comment) : undefined
    if (found === undefined && lost >= MOST_SENDS) {
      got = { outcome: 'unknown', reason: 'Systems Manager answers none of the commands' }
      return true
    }
    run.check()
    try {
      got = found ?? (await send(run, { instance, comment, line }))
      return true
    } catch (error) {
      if (!(error instanceof BakeError)) throw error
      if (error.code === 'ec2_unreachable') lost++
      else if (isRefused(error, 'InvalidInstanceId')) {
        // Its agent may be silent for a while. Of an instance that is gone nobody knows what it did with an earlier one.
        const gone = await isGone()
        if (gone !== undefined) {
          got = { outcome: 'unknown', reason: gone }
          return true
        }
      } else throw error
      return error.message
    }
  })
  return got
}

async function send(run: Run, { instance, comment, line }: { instance: string; comment: string; line: string }): Promise<string> {
  const request = { ...shell(line, MIGRATE_SECONDS), instances: [instance], comment, repeatable: false }
  const [id = ''] = await run.world.commands.send(request)
  await failpoint('full-migrate-sent')
  return id
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
