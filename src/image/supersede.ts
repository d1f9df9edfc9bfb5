import { z } from 'zod'
import { BakeError } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import type { ImageJob } from '../jobs/job.ts'
import { ENDED, type Failure, read, readBuild } from '../jobs/records.ts'
import { BUILD_ID_PATTERN, buildIdTime, COMMIT_PATTERN, keys } from '../names.ts'
import type { ImageWorld } from './world.ts'

/** `asks/<image>/<branch>/<build>`: a build that was asked for on a branch, written once its message is on the queue. */
const askSchema = z.object({
  version: z.literal(1),
  build: z.string().regex(BUILD_ID_PATTERN),
  commit: z.string().regex(COMMIT_PATTERN),
  at: z.number(),
  /** Asks that were there before this one, as far as clocks could mistake them for later ones. */
  seen: z.array(z.string()),
})
type AskDocument = z.infer<typeof askSchema>

/** Ids carry their asker's clock. Two askers' clocks are less than this apart, or a build isn't superseded that could have been. */
const CLOCKS_APART_MS = 30 * 60_000
/** More asks of one branch within that time than anybody makes. */
const MOST_ASKS = 200

interface Subject {
  image: string
  branch?: string | undefined
  build: string
  commit: string
}

/** Makes an ask of a branch known, so that queued builds of older commits give way to it. Call it after the message was sent: nothing gives way to a build that never comes. */
export async function noteAsk({ image, branch, build, commit }: Subject, world: { ledger: Ledger; supersede: boolean }) {
  if (!world.supersede || branch === undefined) return
  const seen = (await asksAround(world.ledger, image, branch, build)).filter((each) => each !== build)
  const document: AskDocument & { nonce: string } = {
    ...{ version: 1, nonce: crypto.randomUUID(), build, commit, at: Date.now(), seen },
  }
  await world.ledger.create(keys.ask(image, branch, build), document)
}

/** Asks of a branch that may be later than `build`, newest first by their askers' clocks. */
async function asksAround(ledger: Ledger, image: string, branch: string, build: string): Promise<string[]> {
  const prefix = keys.asks(image, branch)
  const names = await ledger.list(prefix, { limit: MOST_ASKS })
  const since = buildIdTime(build) - CLOCKS_APART_MS
  return names.map((name) => name.slice(prefix.length)).filter((each) => buildIdTime(each) > since)
}

export interface Superseded {
  by: string
  failure: Failure
}

/**
 * The later ask that takes the place of a job which never had a claim: of the same branch, for another commit, not seen by this job's own
 * asker, not cancelled or failed, and whose commit descends from the job's, or stands on a branch that was rewritten without it. A rebuild gives way to nothing.
 */
export async function supersededBy(job: ImageJob, world: ImageWorld, signal: AbortSignal): Promise<Superseded | undefined> {
  const { branch, image, build } = job
  if (!world.supersede || branch === undefined || job.rebuild) return undefined
  const around = await asksAround(world.ledger, image, branch, build)
  if (around.every((each) => each === build)) return undefined
  const own = await readAsk(world.ledger, keys.ask(image, branch, build))
  const earlier = new Set(own?.seen)
  // Of an asker that told nothing of what it saw, only the id says what came later.
  const later = around.filter((each) => each !== build && !earlier.has(each) && (own !== undefined || each < build))
  for (const each of later) {
    const ask = await readAsk(world.ledger, keys.ask(image, branch, each))
    if (!ask || ask.commit === job.commit || !(await stands(world.ledger, each))) continue
    if (await replaces(ask.commit, { ...job, branch }, world, signal)) return { by: each, failure: failureOf(job, branch, ask) }
  }
  return undefined
}

const readAsk = (ledger: Ledger, at: string) => read(ledger, at, askSchema).catch(() => undefined)

/** Whether a build is still to come, or came. One that gave way itself has a later one to be asked instead. */
async function stands(ledger: Ledger, build: string): Promise<boolean> {
  const [cancelled, record] = await Promise.all([ledger.get(keys.cancel(build)), readBuild(ledger, build).catch(() => undefined)])
  return cancelled === undefined && !(record && ENDED.has(record.status) && !['built', 'tagged'].includes(record.status))
}

/** Asks git, never clocks. A commit that can't be had replaces nothing. */
async function replaces(newer: string, job: ImageJob & { branch: string }, world: ImageWorld, signal: AbortSignal) {
  const { commit, branch } = job
  try {
    const source = world.source(job.repository)
    await source.fetch({ commit, signal })
    const { tip } = await source.fetch({ commit: newer, branch, signal })
    if (await source.objects.reaches(newer, commit)) return true
    return tip !== undefined && (await source.objects.reaches(tip, newer)) && !(await source.objects.reaches(tip, commit))
  } catch (error) {
    if (error instanceof BakeError) return false
    throw error
  }
}

const failureOf = ({ build, commit }: ImageJob, branch: string, newer: AskDocument): Failure => ({
  kind: 'user',
  code: 'superseded',
  message: `commit ${commit.slice(0, 12)} was not built: build ${newer.build} has a newer commit of ${branch}, ${newer.commit.slice(0, 12)}`,
  exit: 3,
  next: `bake logs ${newer.build} --follow    follows that one; bake retry ${build}    builds this one all the same`,
})
