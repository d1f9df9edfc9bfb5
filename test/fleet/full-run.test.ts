import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, describe, expect, test } from 'vitest'
import type { DeployWorld } from '../../src/fleet/deploy-world.ts'
import { type Full, type NewStep, refresh, take } from '../../src/fleet/deployments.ts'
import { answer } from '../../src/fleet/full-answer.ts'
import { canGoBack, goesBack, standing } from '../../src/fleet/full-state.ts'
import { turnRound } from '../../src/fleet/rollback.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { begun as begin, claim as claimAs, worldOf as world } from '../support/full-log.ts'

let dir: string
let ledger: DirectoryLedger
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-full-'))
  ledger = new DirectoryLedger(dir)
  return () => rm(dir, { recursive: true, maxRetries: 3 })
})

const begun = (...steps: NewStep[]) => begin(ledger, steps)
const worldOf = (more: Partial<DeployWorld> = {}) => world(ledger, more)
const claim = (at: Full, more: Partial<DeployWorld> = {}) => claimAs(at, worldOf(more))

describe('one process takes the steps:', () => {
  test('others follow as long as it lives, and get what it leaves', async () => {
    const at = await begun()
    const first = await claim(at)
    const second = claim(at)
    await sleep(100)
    await first.record({ step: 'suspending' })
    expect((await refresh(ledger, at)).steps.map(({ step }) => step)).toEqual(['claimed', 'suspending'])
    await first[Symbol.asyncDispose]()
    await using run = await second
    expect(run.at.steps.map(({ step }) => step)).toEqual(['claimed', 'suspending', 'released', 'claimed'])
  })

  test('one that was silent for a lease is given up by others and by itself', async () => {
    const at = await begun()
    let touches = 0
    const mute = new DirectoryLedger(dir)
    const touch = mute.touch.bind(mute)
    mute.touch = async (key) => (touches++ === 0 ? await touch(key) : await new Promise(() => {}))
    await using first = await claim(at, { ledger: mute, leaseMs: 300 })
    await using second = await claim(at)
    expect(() => first.check()).toThrow(expect.objectContaining({ code: 'lease_lost', exit: 4 }))
    await expect(first.record({ step: 'suspending' })).rejects.toMatchObject({ code: 'lease_lost' })
    await second.record({ step: 'suspending' })
  })

  test('one whose place was taken learns it from its next step', async () => {
    const at = await begun()
    await using first = await claim(at)
    await using _second = await claim(at, { hasEnded: () => true })
    await expect(first.record({ step: 'suspending' })).rejects.toMatchObject({ code: 'deployment_taken', exit: 4 })
  })
})

describe('migrate decides which way is left:', () => {
  const MIGRATING: NewStep[] = [
    { step: 'suspending' },
    { step: 'draining', instances: ['i-3'] },
    { step: 'migrating', instance: 'i-3' },
  ]

  test('from its beginning on nothing is taken back', async () => {
    const at = await begun(...MIGRATING)
    expect([canGoBack(at), standing(at)]).toEqual([false, 'migrate runs'])
    await expect(turnRound(at, worldOf())).rejects.toMatchObject({ code: 'migrate_begun', exit: 2 })
  })

  test('a wish that came too late, by what the log has meanwhile', async () => {
    const at = await begun(MIGRATING[0]!, MIGRATING[1]!)
    expect(canGoBack(at)).toBe(true)
    await take(ledger, at, MIGRATING[2]!, 'ann@here')
    await expect(turnRound(at, worldOf())).rejects.toMatchObject({ code: 'migrate_begun' })
  })

  test('a migration that went well can be called undone until the old instances go; nothing turns it after that', async () => {
    const at = await begun(...MIGRATING, { step: 'migrated', outcome: 'done' }, { step: 'registering' })
    await expect(answer(at, true, worldOf())).rejects.toMatchObject({ code: 'nothing_to_answer' })
    await expect(turnRound(at, worldOf())).rejects.toMatchObject({ next: expect.stringContaining('--migrate-undone') })
    const undone = await answer(at, false, worldOf())
    expect([canGoBack(undone), goesBack(undone)]).toEqual([true, true])
    await expect(answer(undone, true, worldOf())).rejects.toMatchObject({ message: expect.stringContaining('undone') })
  })

  test('a word of another counts until it is acted on: the newest', async () => {
    const at = await begun(...MIGRATING, { step: 'migrated', outcome: 'failed' }, { step: 'answered', migrated: true })
    expect(canGoBack(await answer(at, false, worldOf()))).toBe(true)
  })

  test('with the old instances gone nothing can be called undone', async () => {
    const at = await begun(...MIGRATING, { step: 'migrated', outcome: 'done' }, { step: 'retiring' })
    await expect(answer(at, false, worldOf())).rejects.toMatchObject({ code: 'nothing_to_answer' })
  })

  test('a word on it counts once, and only when it is asked for', async () => {
    const at = await begun(...MIGRATING)
    await expect(answer(at, false, worldOf())).rejects.toMatchObject({ code: 'nothing_to_answer', exit: 2 })
    const stopped = await take(ledger, at, { step: 'migrated', outcome: 'unknown' }, 'ann@here')
    expect(standing(stopped)).toBe('nobody knows how migrate ended')
    const answered = await answer(stopped, false, worldOf())
    expect(canGoBack(answered)).toBe(true)
    expect((await answer(answered, false, worldOf())).steps).toHaveLength(answered.steps.length)
    await expect(answer(stopped, true, worldOf())).rejects.toMatchObject({ message: expect.stringContaining('bob@there') })
  })
})
