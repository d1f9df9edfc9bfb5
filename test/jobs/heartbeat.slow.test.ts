import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Ledger } from '../../src/io/ledger.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { Heartbeat, isAlive } from '../../src/jobs/heartbeat.ts'
import { keys } from '../../src/names.ts'

const OWNER = join(import.meta.dirname, '../support/heartbeat-owner.ts')

describe('Heartbeat', () => {
  let root: string
  let ledger: DirectoryLedger
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'bake-beat-'))
    ledger = new DirectoryLedger(root)
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))

  it('has beaten when start resolves, keeps its owner alive, and lets it die after stop', async () => {
    expect(await isAlive(ledger, 'w1', 900)).toBe(false)
    const heartbeat = new Heartbeat(ledger, 'w1', { leaseMs: 900 })
    await heartbeat.start()
    expect(await ledger.age(keys.beat('w1'))).toBeLessThan(900)
    for (let i = 0; i < 8; i++) {
      await sleep(180)
      expect(await isAlive(ledger, 'w1', 900)).toBe(true)
    }
    heartbeat.check()
    await heartbeat.stop()
    await sleep(1_000)
    expect(await isAlive(ledger, 'w1', 900)).toBe(false)
    expect(heartbeat.lost.aborted).toBe(false)
  })

  it('throws from start what the first beat met, and beats no more', async () => {
    const heartbeat = new Heartbeat(ledger, '../w1', { leaseMs: 200 })
    await expect(heartbeat.start()).rejects.toMatchObject({ code: 'ledger_key' })
    await sleep(250)
    expect(heartbeat.lost.aborted).toBe(false)
  })

  it('is lost one lease after the last good beat when beats fail, with the reason', async () => {
    const at = join(root, 'beats')
    const heartbeat = new Heartbeat(ledger, 'w1', { leaseMs: 400 })
    await heartbeat.start()
    const before = performance.now()
    rmSync(at, { recursive: true })
    await new DirectoryLedger(root).put('beats', {})
    await once(heartbeat.lost, 'abort')
    expect(performance.now() - before).toBeGreaterThan(200)
    expect(performance.now() - before).toBeLessThan(8_000)
    expect(heartbeat.lost.reason).toMatchObject({ code: 'lease_lost', kind: 'world', ids: { owner: 'w1' } })
    expect(heartbeat.lost.reason.message).toContain('beats')
    expect(() => heartbeat.check()).toThrow(expect.objectContaining({ code: 'lease_lost' }))
    await heartbeat.stop()
  })

  it('outlives beats that fail for less than a lease', async () => {
    const heartbeat = new Heartbeat(ledger, 'w1', { leaseMs: 1_500 })
    await heartbeat.start()
    rmSync(join(root, 'beats'), { recursive: true })
    await new DirectoryLedger(root).put('beats', {})
    await sleep(700)
    rmSync(join(root, 'beats'))
    await sleep(1_700)
    expect(heartbeat.lost.aborted).toBe(false)
    expect(await isAlive(ledger, 'w1', 1_500)).toBe(true)
    await heartbeat.stop()
  })

  it('is lost in time when beats hang, the first one included, and stop does not hang with them', async () => {
    const hung = gated(ledger)
    const heartbeat = new Heartbeat(hung.ledger, 'w1', { leaseMs: 300 })
    await heartbeat.start()
    hung.close()
    const before = performance.now()
    await once(heartbeat.lost, 'abort')
    expect(performance.now() - before).toBeLessThan(8_000)
    await heartbeat.stop()
    expect(performance.now() - before).toBeLessThan(8_000)
    expect(hung.waiting()).toBeLessThanOrEqual(3)
    await expect(new Heartbeat(hung.ledger, 'w2', { leaseMs: 100 }).start()).rejects.toMatchObject({ code: 'lease_lost' })
    await hung.open()
  })

  it('counts from when a beat was sent: one that lands after the lease saves nothing', async () => {
    const slow = gated(ledger)
    let now = 0
    const heartbeat = new Heartbeat(slow.ledger, 'w1', { leaseMs: 300, now: () => now })
    await heartbeat.start()
    now = 290
    heartbeat.check()
    slow.close()
    while (slow.waiting() === 0) await sleep(10)
    now = 400
    await slow.open()
    heartbeat.check()
    // Sent at 290, landed at 400: good until 590.
    now = 591
    expect(() => heartbeat.check()).toThrow(expect.objectContaining({ code: 'lease_lost' }))
    now = 300
    expect(() => heartbeat.check()).toThrow()
    await heartbeat.stop()
  })

  it('notices a pause past the lease before any further work, in a real process', async () => {
    const leaseMs = 1_000
    const child = spawn(process.execPath, [OWNER, root, 'w1', String(leaseMs)], { stdio: ['ignore', 'pipe', 'inherit'] })
    const exited = once(child, 'exit')
    const said: Record<string, unknown>[] = []
    createInterface({ input: child.stdout }).on('line', (line) => said.push(JSON.parse(line)))
    try {
      await until(() => said.length > 0)
      // A pause shorter than the lease costs nothing.
      child.kill('SIGSTOP')
      await sleep(leaseMs / 4)
      child.kill('SIGCONT')
      await sleep(leaseMs)
      expect(said).toEqual([{ started: true }])
      expect(await isAlive(ledger, 'w1', leaseMs)).toBe(true)

      child.kill('SIGSTOP')
      await sleep(leaseMs * 2)
      expect(await isAlive(ledger, 'w1', leaseMs)).toBe(false)
      child.kill('SIGCONT')
      await until(() => said.length >= 3)
      expect(said.slice(1)).toEqual([{ lost: true, code: 'lease_lost' }, { stopped: 'lease_lost' }])
      // It is over: no beat brings it back.
      await sleep(leaseMs)
      expect(await isAlive(ledger, 'w1', leaseMs)).toBe(false)
    } finally {
      child.kill('SIGKILL')
      await exited
    }
  })
})

async function until(condition: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !condition(); await sleep(10))
    if (performance.now() > end) throw new Error('waited 10 s in vain')
}

/** The real ledger behind a gate, as a network that swallows packets for a while: touches wait until it opens. */
function gated(ledger: DirectoryLedger) {
  let gate: PromiseWithResolvers<void> | undefined
  const underWay = new Set<Promise<void>>()
  const touch: Ledger['touch'] = (key) => {
    const landing = Promise.resolve(gate?.promise)
      .then(() => ledger.touch(key))
      .finally(() => underWay.delete(landing))
    underWay.add(landing)
    return landing
  }
  return {
    ledger: { touch } as Ledger,
    close: () => {
      gate = Promise.withResolvers()
    },
    /** Resolves when everything that waited has landed. */
    open: async () => {
      gate?.resolve()
      gate = undefined
      await Promise.all(underWay)
    },
    waiting: () => underWay.size,
  }
}
