import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { NotifyDefinition } from '../config.ts'
import { BakeError, messageOf } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { keys } from '../names.ts'
import { read } from './records.ts'
import type { Hook, Told } from './tell.ts'

/** The end of a bake of a machine image, or of a deployment. */
export interface End extends Told {
  event: NotifyDefinition['on'][number]
  /** ms since the epoch */
  at: number
}

export interface AnnounceWorld {
  ledger: Ledger
  hooks: readonly Hook[]
  signal: AbortSignal
  onProblem(text: string): void
  /** Between two tries of one hook, ms. */
  pausesMs?: readonly number[]
}

/** A person waits for the command that tells: with 5 s for each of two tries a hook that never answers takes 11 s. */
const PAUSES_MS = [1_000]
/** Who has been telling for longer than this is dead. */
const TELLING_MS = 60_000
/** An end that nobody was told of is told by the next command, but not as news of last week. */
const NEWS_MS = 86_400_000

/** `notices/<id>` */
const noticeSchema = z.object({ version: z.literal(1), id: z.string(), at: z.number(), done: z.boolean() })

/** Images and branches are builds': an entry that names some is told of nothing else. */
export const wantsEnd = ({ on, images, branches }: NotifyDefinition, event: End['event']): boolean =>
  on.includes(event) && images.length === 0 && branches.length === 0

/**
 * Tells of an end what nobody was told yet, at least once: whoever is killed before that was noted leaves it to the next command that comes by. What can't be
 * told in a second try is reported and given up. Never throws.
 */
export async function announce(end: End, world: AnnounceWorld): Promise<void> {
  const { ledger, signal, onProblem } = world
  const hooks = world.hooks.filter(({ definition }) => wantsEnd(definition, end.event))
  if (hooks.length === 0 || signal.aborted || Date.now() - end.at > NEWS_MS) return
  try {
    const { id } = end.notice
    if (!(await take(id, ledger))) return
    await Promise.all(hooks.map((hook) => send(hook, end, world)))
    if (signal.aborted) return
    await ledger.put(keys.notice(id), { version: 1, id, at: Date.now(), done: true })
  } catch (error) {
    onProblem(`notify: ${messageOf(error)}`)
  }
}

/** False: it was told, or somebody is at it. */
async function take(id: string, ledger: Ledger): Promise<boolean> {
  const mine = { version: 1, id, at: Date.now(), done: false }
  if (await ledger.create(keys.notice(id), mine)) return true
  const theirs = await read(ledger, keys.notice(id), noticeSchema)
  if (theirs && (theirs.done || Date.now() - theirs.at < TELLING_MS)) return false
  await ledger.put(keys.notice(id), mine)
  return true
}

async function send(hook: Hook, end: End, { signal, onProblem, pausesMs = PAUSES_MS }: AnnounceWorld): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await hook.send(end, signal)
    } catch (error) {
      if (signal.aborted) return
      const passing = error instanceof BakeError && error.kind === 'world'
      if (!passing || tries > pausesMs.length) {
        const what = `${end.notice.type} in ${tries} ${tries === 1 ? 'try' : 'tries'}`
        return onProblem(`${hook.name} was not told of ${what}: ${messageOf(error)}`)
      }
      await sleep(pausesMs[tries - 1]!, undefined, { signal }).catch(() => {})
    }
  }
}
