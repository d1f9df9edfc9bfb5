import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { StoryEvent } from '../../src/events.ts'
import type { Ledger } from '../../src/io/ledger.ts'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { followLog, LogWriter, readLog } from '../../src/jobs/logs.ts'
import { Redactor } from '../../src/jobs/redact.ts'

const MIB = 1024 * 1024
const LOG = 'logs/b/00000001'
const redact = new Redactor([])
const line = (n: number, text = `line ${n}`, more?: true): StoryEvent => ({
  type: 'line',
  step: 1,
  stream: 1,
  text,
  t: n,
  ...(more && { more }),
})
const lines = (count: number) => Array.from({ length: count }, (_, n) => line(n))
const never = new AbortController().signal

describe('a log', () => {
  let root: string
  let ledger: DirectoryLedger
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'bake-logs-'))
    ledger = new DirectoryLedger(root)
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))
  const all = (prefix = LOG) => Array.fromAsync(readLog(ledger, prefix))
  const chunkFile = (n: number) => join(root, LOG, String(n).padStart(8, '0'))

  it('gives back every event in order, over chunks, and ends at its end marker', async () => {
    const log = new LogWriter(ledger, LOG, { redact, maxChunkBytes: 1_000 })
    for (const event of lines(500)) await log.write(event)
    await log.close()
    await log.close()
    log.write(line(501))
    expect(await all()).toEqual(lines(500))
    expect((await ledger.list(`${LOG}/`)).length).toBeGreaterThan(20)
    expect(await Array.fromAsync(followLog(ledger, LOG, { signal: never, pollMs: 10 }))).toEqual(lines(500))
    expect(log.incomplete).toBeUndefined()
  })

  it('is closed by `await using`, also when empty', async () => {
    {
      await using _ = new LogWriter(ledger, LOG, { redact })
    }
    expect(await Array.fromAsync(followLog(ledger, LOG, { signal: never, pollMs: 10 }))).toEqual([])
  })

  it('shows a first event at once and later ones every flushMs', async () => {
    const log = new LogWriter(ledger, LOG, { redact, flushMs: 3_000 })
    const follower = followLog(ledger, LOG, { signal: never, pollMs: 5 })
    const start = performance.now()
    log.write(line(0))
    expect((await follower.next()).value).toEqual(line(0))
    expect(performance.now() - start).toBeLessThan(2_500)
    log.write(line(1))
    await sleep(20)
    log.write(line(2))
    expect((await follower.next()).value).toEqual(line(1))
    expect((await follower.next()).value).toEqual(line(2))
    expect(performance.now() - start).toBeGreaterThan(2_500)
    expect(await ledger.list(`${LOG}/`)).toHaveLength(2)
    await log.close()
    expect((await follower.next()).done).toBe(true)
  })

  it('lets a follower begin at a chunk, and end by its signal after a last read', async () => {
    await ledger.append(LOG, 0, Buffer.from(`${JSON.stringify(line(0))}\n`))
    await ledger.append(LOG, 1, Buffer.from(`${JSON.stringify(line(1))}\n`))
    const over = new AbortController()
    const follower = followLog(ledger, LOG, { signal: over.signal, pollMs: 60_000, from: 1 })
    expect((await follower.next()).value).toEqual(line(1))
    const next = follower.next()
    await sleep(50)
    await ledger.append(LOG, 2, Buffer.from(`${JSON.stringify(line(2))}\n`))
    over.abort()
    expect((await next).value).toEqual(line(2))
    expect((await follower.next()).done).toBe(true)
  })

  it('asks for one chunk per poll and never lists', async () => {
    let calls = 0
    const counting = {
      chunk: (prefix: string, n: number) => {
        calls++
        return ledger.chunk(prefix, n)
      },
    } as Ledger
    const over = new AbortController()
    const following = Array.fromAsync(followLog(counting, LOG, { signal: over.signal, pollMs: 50 }))
    await sleep(500)
    over.abort()
    await following
    expect(calls).toBeGreaterThan(4)
    expect(calls).toBeLessThan(13)
  })

  it('holds no secret, whole or cut by a long line, in any chunk', async () => {
    const secret = 'correct-horse-battery-staple'
    const log = new LogWriter(ledger, LOG, { redact: new Redactor([secret]) })
    log.write({ type: 'phase', phase: 'fetching', t: 0, detail: `https://x:${secret}@example.org` })
    log.write(line(1, `${'x'.repeat(65_530)}correct-`, true))
    log.write(line(2, 'horse-battery-'.padEnd(14), true))
    log.write(line(3, 'staple done'))
    log.write(line(4, 'cut at the end: correct-horse-battery-', true))
    await log.close()
    const texts = (await all()).map((event) => ('text' in event ? event.text : JSON.stringify(event)))
    expect(texts.join('\n')).not.toMatch(/horse-battery-staple|staple@/)
    expect(texts.slice(1, 4).join('')).toBe(`${'x'.repeat(65_530)}*** done`)
    expect(texts.slice(4).join('')).toBe('cut at the end: correct-horse-battery-')
  })

  it('survives a line of several MiB, an event larger than a chunk', async () => {
    const log = new LogWriter(ledger, LOG, { redact })
    const long = line(1, 'ä'.repeat(3 * MIB))
    log.write(line(0))
    await log.write(long)
    await log.write(line(2))
    await log.close()
    expect(await all()).toEqual([line(0), long, line(2)])
  })

  it('skips damaged lines with a note, and goes on', async () => {
    const log = new LogWriter(ledger, LOG, { redact, maxChunkBytes: 150 })
    for (const event of lines(9)) log.write(event)
    await log.close()
    expect((await ledger.list(`${LOG}/`)).length).toBeGreaterThan(4)
    const size = Buffer.byteLength(`${JSON.stringify(line(0))}\n`)
    truncateSync(chunkFile(0), size + 20)
    truncateSync(chunkFile(1), 0)
    writeFileSync(chunkFile(2), '\u0000\u0000garbage\n[1]\nnull\n"text"\n{"type":5}\n')
    const read = await all()
    expect(read[0]).toEqual(line(0))
    expect(read.slice(1, 4).map((event) => event.type)).toEqual(['note', 'note', 'note'])
    expect(read[3]).toMatchObject({ level: 'warning', text: expect.stringContaining('5 damaged log entries') })
    expect(read.at(-1)).toEqual(line(8))
    expect(read.filter((event) => event.type === 'line').map((event) => event.t)).toEqual([0, 6, 7, 8])
  })

  it('loses nothing when the ledger is away for a while', async () => {
    writeFileSync(join(root, 'logs'), 'a file where the directory belongs')
    const log = new LogWriter(ledger, LOG, { redact, flushMs: 20 })
    for (const event of lines(100)) log.write(event)
    await sleep(300)
    expect(log.waitingBytes).toBeGreaterThan(1_000)
    rmSync(join(root, 'logs'))
    log.write(line(100))
    await log.close()
    expect(await all()).toEqual(lines(101))
    expect(log.incomplete).toBeUndefined()
  })

  it('gives up after giveUpMs without an error, says what is missing where, and carries on', async () => {
    writeFileSync(join(root, 'logs'), 'a file where the directory belongs')
    const log = new LogWriter(ledger, LOG, { redact, flushMs: 20, giveUpMs: 100 })
    for (const event of lines(3)) log.write(event)
    await sleep(500)
    expect(log.waitingBytes).toBe(0)
    rmSync(join(root, 'logs'))
    log.write(line(3))
    await log.close()
    expect(await all()).toEqual([
      { type: 'note', level: 'warning', t: expect.any(Number), text: expect.stringContaining('3 log entries are missing here') },
      line(3),
    ])
    expect(log.incomplete).toContain('3 entries')
  })

  it('does not hold up the end of a build when the ledger stays away', async () => {
    writeFileSync(join(root, 'logs'), 'a file where the directory belongs')
    const log = new LogWriter(ledger, LOG, { redact, flushMs: 20, giveUpMs: 200 })
    log.write(line(0))
    const before = performance.now()
    await log.close()
    expect(performance.now() - before).toBeLessThan(10_000)
    expect(log.incomplete).toContain('2 entries')
  })

  it('asks its caller to wait when several MiB wait, and holds no more', async () => {
    const append: Ledger['append'] = async (...chunk) => {
      await sleep(15)
      await ledger.append(...chunk)
    }
    const slow = { append } as Ledger
    const log = new LogWriter(slow, LOG, { redact })
    const text = 'x'.repeat(1_000)
    let most = 0
    let waits = 0
    for (let n = 0; n < 50_000; n++) {
      const wait = log.write(line(n, text))
      most = Math.max(most, log.waitingBytes)
      if (wait === undefined) continue
      waits++
      await wait
    }
    await log.close()
    expect(waits).toBeGreaterThan(5)
    expect(most).toBeLessThan(5 * MIB)
    let n = 0
    for await (const event of readLog(ledger, LOG)) expect(event.t).toBe(n++)
    expect(n).toBe(50_000)
  })

  it('takes a flood with bounded memory, in writer and follower', () => {
    const flood = join(import.meta.dirname, '../support/log-flood.ts')
    const run = (...args: string[]) => {
      const { stdout, stderr, status } = spawnSync(process.execPath, ['--max-semi-space-size=4', flood, root, ...args], {
        encoding: 'utf8',
      })
      expect(status, stderr).toBe(0)
      return JSON.parse(stdout) as { events: number; bytes: number; grownMb: number }
    }
    const written = run('write', '100')
    expect(written.bytes).toBeGreaterThanOrEqual(100 * MIB)
    const read = run('read')
    expect(read.events).toBe(written.events)
    // 36 and 80 MB, whatever the flood's size; what held on to it all would take more than twice the flood.
    expect(written.grownMb).toBeLessThan(80)
    expect(read.grownMb).toBeLessThan(130)
  })
})
