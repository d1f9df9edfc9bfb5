import { type AskedBake, type AskMachineWorld, askForMachine, bakedElsewhere, basesOf } from '../ami/ask.ts'
import type { Bake, BakeAsk } from '../ami/bake.ts'
import { StepPhases } from '../ami/steps.ts'
import { BakeError, EXIT, messageOf, refused } from '../errors.ts'
import { followBuild } from '../jobs/follow.ts'
import { Members } from '../jobs/members.ts'
import { type AmiRequest, type Baking, type Bakings, telling } from './ami.ts'

/**
 * `bake ami` where workers bake: asks for all of a release's machine images before any is followed, so that none depends on who asked staying there. Undefined
 * when one of them starts from a disk, which is this machine's. Throws what all of them fail with, or `interrupted` (exit 130): they go on then.
 */
export async function askWorkers(ask: BakeAsk, world: AskMachineWorld, request: AmiRequest): Promise<Bakings | undefined> {
  const bases = await basesOf(ask, world)
  if (!bases.every((base) => 'ami' in base)) return undefined
  if (ask.keepFailed)
    throw refused('bad_flag', '--keep-failed leaves what failed on the machine that bakes, and workers bake', {
      next: 'add --here to bake in this process',
    })
  const asked: (Baking | AskedBake)[] = []
  for (const variant of bases.keys()) asked.push(await askForOne(variant, ask, world, request))
  if (request.wait === false || asked.every(isDone)) return { made: asked }
  await noteIdleFleet(world, request)
  const open = new Set(asked.flatMap((each) => (isDone(each) ? [] : [each.build])))
  const followed = asked.map(async (each, variant) => {
    if (isDone(each)) return each
    const bake = await telling(variant, request, each.build, (tell) => follow(each, tell, world, request))
    open.delete(each.build)
    return bake
  })
  const ended = await Promise.allSettled(followed)
  const failed = ended.find((each) => each.status === 'rejected')
  if (failed && request.signal.aborted && open.size > 0) throw detached([...open])
  const made = ended.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
  if (failed && made.length === 0) throw failed.reason
  return { made, ...(failed && { failure: failed.reason }) }
}

export const isDone = (each: Baking | AskedBake): each is Baking => 'machine' in each

/** What is there is told of at once. */
async function askForOne(
  variant: number,
  ask: BakeAsk,
  world: AskMachineWorld,
  request: AmiRequest,
): Promise<Baking | AskedBake> {
  const result = await askForMachine({ ...ask, variant }, world)
  return 'machine' in result ? telling(variant, request, undefined, async () => result) : result
}

/** Follows a bake to its end, as if it ran here. */
async function follow(
  asked: AskedBake,
  tell: AskMachineWorld['tell'],
  world: AskMachineWorld,
  request: AmiRequest,
): Promise<Bake> {
  const phases = new StepPhases()
  const record = await followBuild(asked.build, world.ledger, {
    signal: request.signal,
    pollMs: world.pollMs,
    settled: request.settled,
    onEvent(event) {
      for (const told of phases.of(event)) tell(told)
    },
  })
  return bakedElsewhere(asked, record, world)
}

/** A job waits for days: whoever asked should know when nobody takes it. */
async function noteIdleFleet({ ledger }: AskMachineWorld, { emit }: AmiRequest): Promise<void> {
  const text = await new Members(ledger).live().then(
    (live) => (live.some(({ bakes }) => bakes) ? undefined : 'no worker that bakes is alive: the job waits for one'),
    (error: unknown) => `whether a worker bakes isn't known: ${messageOf(error)}`,
  )
  if (text !== undefined) emit({ type: 'notice', level: 'warning', text })
}

const detached = (builds: string[]) =>
  new BakeError(
    'user',
    EXIT.interrupted,
    'interrupted',
    builds.length > 1 ? 'detached; the bakes go on' : 'detached; the bake goes on',
    {
      next: `bake logs ${builds[0]} --follow    to watch ${builds.length > 1 ? 'one' : 'it'} again\n      bake cancel ${builds.join(' ')}    to stop ${builds.length > 1 ? 'them' : 'it'}`,
    },
  )
