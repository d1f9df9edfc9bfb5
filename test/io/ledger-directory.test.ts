import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { newBuildId } from '../../src/names.ts'
import { ledgerContract } from '../support/ledger-contract.ts'

const WRITER = join(import.meta.dirname, '../support/ledger-writer.ts')
const NOBODY = 65_534

const throwAway = () => mkdtempSync(join(tmpdir(), 'bake-ledger-'))

ledgerContract('DirectoryLedger', async () => {
  const root = throwAway()
  return {
    ledger: new DirectoryLedger(root),
    another: async () => new DirectoryLedger(root),
    close: async () => rmSync(root, { recursive: true }),
  }
})

describe('DirectoryLedger', () => {
  let root: string
  let ledger: DirectoryLedger
  beforeEach(() => {
    root = throwAway()
    ledger = new DirectoryLedger(join(root, 'ledger'))
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))
  const path = (...parts: string[]) => join(root, 'ledger', ...parts)
  const temps = () => readdirSync(path('.tmp'))

  it('makes nothing before the first write and leaves no temp file after any', async () => {
    expect(await ledger.get('a')).toBeUndefined()
    expect(readdirSync(root)).toEqual([])
    await ledger.create('a', {})
    await ledger.create('a', {})
    await ledger.put('a', {})
    await ledger.touch('b')
    await ledger.age('b')
    await ledger.append('log', 0, Buffer.from('x'))
    expect(temps()).toEqual([])
  })

  it('has exactly one winner per key when two processes create the same 200', async () => {
    const children = ['a', 'b'].map((name) => writer(path(), 'race', name))
    const lines = children.map((child) => createInterface({ input: child.stdout! })[Symbol.asyncIterator]())
    for (const line of lines) expect((await line.next()).value).toBe('ready')
    for (const child of children) child.stdin!.write('go\n')
    const won = await Promise.all(lines.map(async (line) => JSON.parse((await line.next()).value!) as number[]))
    await Promise.all(children.map((child) => child.exitCode ?? once(child, 'exit')))
    expect([...won[0]!, ...won[1]!].sort((x, y) => x - y)).toEqual(Array.from({ length: 200 }, (_, i) => i))
    for (const [index, name] of ['a', 'b'].entries())
      for (const i of won[index]!) expect(await ledger.get(`race/${i}`)).toEqual({ by: name })
  })

  it('holds only whole documents after writers were killed, and no trace of their temp files in lists', async () => {
    for (let round = 0; round < 8; round++) {
      const child = writer(path(), 'forever', `w${round}`)
      await once(child.stdout!, 'data')
      await sleep(20 + round * 11)
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    const found = await ledger.list('')
    // How many each wrote depends on what else the machine does.
    expect(found.length).toBeGreaterThan(2)
    for (const key of found) {
      expect(key).toMatch(/^crash\/(put$|created\/w|log\/)/)
      expect(await ledger.get(key)).toMatchObject({ end: true })
    }
  })

  it('sweeps temp files of long dead writers, and only those', async () => {
    mkdirSync(path('.tmp'), { recursive: true })
    for (const name of ['old', 'young']) writeFileSync(path('.tmp', name), '{"half":')
    const longAgo = Date.now() / 1000 - 2 * 3600
    utimesSync(path('.tmp', 'old'), longAgo, longAgo)
    await ledger.put('a', {})
    expect(temps()).toEqual(['young'])
  })

  it('comes back when its directories are removed under it', async () => {
    await ledger.put('a/b', { n: 1 })
    rmSync(path('a'), { recursive: true })
    rmSync(path('.tmp'), { recursive: true })
    expect(await ledger.create('a/b', { n: 2 })).toBe(true)
    expect(await ledger.get('a/b')).toEqual({ n: 2 })
  })

  it('is not made anew, with entries that follow on nothing, by what still writes to it when it was deleted as a whole', async () => {
    expect(await ledger.create('claims/k/00000000', { n: 0 })).toBe(true)
    rmSync(path(), { recursive: true })
    await expect(ledger.create('claims/k/00000001', { n: 1 })).rejects.toMatchObject({ code: 'ledger_gone', exit: 4 })
    await expect(ledger.touch('beats/x')).rejects.toMatchObject({ code: 'ledger_gone' })
    expect(readdirSync(root)).toEqual([])
  })

  it.each([
    ['truncated', () => truncateSync(path('builds/x'), 7)],
    ['empty', () => truncateSync(path('builds/x'), 0)],
    ['not an object', () => writeFileSync(path('builds/x'), '"text"')],
  ])('reports a document that is %s with its file and a next step', async (_, damage) => {
    await ledger.put('builds/x', { some: 'document' })
    damage()
    const error = await ledger.get('builds/x').catch((error) => error)
    expect(error).toMatchObject({ code: 'ledger_damaged', exit: 4, ids: { document: 'builds/x', path: path('builds/x') } })
    expect(error).toMatchObject({ message: expect.stringContaining(path('builds/x')), next: expect.stringContaining('move') })
  })

  it('counts a beat from the future from its first sight on, because the clock was set back', async () => {
    await ledger.touch('beats/w')
    const ahead = Date.now() / 1000 + 7200
    utimesSync(path('beats/w'), ahead, ahead)
    expect(await ledger.age('beats/w')).toBe(0)
    await sleep(60)
    const age = await ledger.age('beats/w')
    expect(age).toBeGreaterThanOrEqual(40)
    expect(age).toBeLessThan(5_000)
  })

  it('tells age by the file system, not by the clock of the process', async () => {
    await ledger.touch('beats/w')
    const real = Date.now
    Date.now = () => real() + 7_200_000
    try {
      expect(await ledger.age('beats/w')).toBeLessThan(5_000)
      await ledger.touch('beats/w')
      expect(Math.abs(statSync(path('beats/w')).mtimeMs - real())).toBeLessThan(5_000)
    } finally {
      Date.now = real
    }
  })

  it('says so when its place is taken by a file', async () => {
    writeFileSync(path(), 'a file')
    await expect(ledger.put('a', {})).rejects.toMatchObject({ code: 'ledger_unreachable', exit: 4 })
  })

  it.runIf(process.getuid?.() === 0)('says ledger_denied without permission, reading and writing', async () => {
    await ledger.put('a', {})
    for (const at of [root, path(), path('.tmp')]) execFileSync('chmod', ['0700', '--', at])
    process.seteuid!(NOBODY)
    try {
      const denied = { code: 'ledger_denied', exit: 4, next: expect.stringContaining('uid') }
      await expect(ledger.get('a')).rejects.toMatchObject(denied)
      await expect(ledger.put('a', {})).rejects.toMatchObject(denied)
      await expect(ledger.list('')).rejects.toMatchObject(denied)
      await expect(ledger.age('a')).rejects.toMatchObject(denied)
    } finally {
      process.seteuid!(0)
    }
  })

  it.runIf(process.getuid?.() === 0)(
    'says disk_full on a full disk, keeps the old document and leaves no temp file',
    async () => {
      mkdirSync(path())
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', path()])
      try {
        await ledger.put('a', { n: 1 })
        const full = { code: 'disk_full', exit: 4, next: expect.stringContaining('df') }
        const large = { text: 'x'.repeat(200_000) }
        await expect(ledger.put('a', large)).rejects.toMatchObject(full)
        await expect(ledger.create('b', large)).rejects.toMatchObject(full)
        await expect(ledger.append('l', 0, Buffer.alloc(200_000))).rejects.toMatchObject(full)
        expect(await ledger.get('a')).toEqual({ n: 1 })
        expect(temps()).toEqual([])
        await ledger.put('a', { n: 2 })
      } finally {
        execFileSync('umount', ['--', path()])
      }
    },
  )

  it('lists the first 50 of 100,000 builds well within the time of one command', async () => {
    mkdirSync(path('builds'), { recursive: true })
    const ids = Array.from({ length: 100_000 }, (_, i) => newBuildId(1_760_000_000_000 + i * 60_000))
    // Links, because they are quicker to make than files; ext4 has 65,000 per file at most.
    for (const source of [0, 1]) writeFileSync(join(root, `${source}`), '{}')
    for (const [i, id] of ids.entries()) linkSync(join(root, `${i % 2}`), path('builds', id))
    const sorted = ids.map((id) => `builds/${id}`).sort()
    const tookMs: number[] = []
    for (let run = 0; run < 5; run++) {
      const before = process.cpuUsage()
      expect(await ledger.list('builds/', { limit: 50 })).toEqual(sorted.slice(0, 50))
      const { user, system } = process.cpuUsage(before)
      tookMs.push((user + system) / 1000)
    }
    // CPU time, because tests share the machine: 70 ms on an idle one of 2 cores.
    expect(Math.min(...tookMs)).toBeLessThan(200)
    expect(await ledger.list('builds/', { limit: 50, after: sorted[70_000]! })).toEqual(sorted.slice(70_001, 70_051))
    expect(await ledger.list('builds/', { limit: 6_000 })).toEqual(sorted.slice(0, 6_000))
    expect(await ledger.list('builds/')).toEqual(sorted)
  }, 180_000)
})

function writer(root: string, mode: string, name: string): ChildProcess {
  return spawn(process.execPath, [WRITER, root, mode, name], { stdio: ['pipe', 'pipe', 'inherit'] })
}
