import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BakeError } from '../../src/errors.ts'
import type { Ledger } from '../../src/io/ledger.ts'

export interface LedgerUnderTest {
  ledger: Ledger
  /** A second client on the same store, as another process would have it. */
  another(): Promise<Ledger>
  close(): Promise<void>
}

/** What every adapter of Ledger keeps, whatever it stores things in. `make` gives an empty one. */
export function ledgerContract(name: string, make: () => Promise<LedgerUnderTest>): void {
  describe(`${name} keeps the ledger's contract`, () => {
    let under: LedgerUnderTest
    let ledger: Ledger
    beforeAll(async () => {
      under = await make()
      ledger = under.ledger
    })
    afterAll(() => under.close())

    it('gives back what create stored, and keeps it when the key is created again', async () => {
      expect(await ledger.create('contract/create/a', { by: 'first', text: 'ä\n"' })).toBe(true)
      expect(await ledger.create('contract/create/a', { by: 'second' })).toBe(false)
      expect(await ledger.get('contract/create/a')).toEqual({ by: 'first', text: 'ä\n"' })
    })

    it('replaces with put, and shows it to another client', async () => {
      await ledger.put('contract/put', { n: 1 })
      await ledger.put('contract/put', { n: 2 })
      expect(await (await under.another()).get('contract/put')).toEqual({ n: 2 })
      expect(await ledger.create('contract/put', { n: 3 })).toBe(false)
    })

    it('says undefined for what was never stored', async () => {
      expect(await ledger.get('contract/none')).toBeUndefined()
      expect(await ledger.get('nowhere/at/all')).toBeUndefined()
      expect(await ledger.chunk('contract/no-log', 0)).toBeUndefined()
      expect(await ledger.age('contract/no-beat')).toBeUndefined()
      expect(await ledger.list('nowhere/')).toEqual([])
    })

    it('lets exactly one of two clients create a key, 100 times', async () => {
      const other = await under.another()
      const wins = await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          const key = `contract/race/${i}`
          const [a, b] = await Promise.all([ledger.create(key, { by: 'a' }), other.create(key, { by: 'b' })])
          return { a, b, stored: await ledger.get(key) }
        }),
      )
      for (const { a, b, stored } of wins) {
        expect(a).not.toBe(b)
        expect(stored).toEqual({ by: a ? 'a' : 'b' })
      }
    })

    it('shows a reader only whole documents while they are replaced', async () => {
      const other = await under.another()
      const document = (n: number) => ({ n, text: String(n).repeat(40_000), again: n })
      await ledger.put('contract/torn', document(0))
      let done = false
      const writer = (async () => {
        for (let n = 1; n <= 50; n++) await ledger.put('contract/torn', document(n % 10))
        done = true
      })()
      let reads = 0
      for (; !done; reads++) {
        const { n } = (await other.get('contract/torn')) as { n: number }
        expect(await other.get('contract/torn')).toMatchObject({ text: expect.stringMatching(/^(\d)\1*$/) })
        expect(n).toBeLessThan(10)
      }
      await writer
      expect(reads).toBeGreaterThan(5)
    })

    it('lists keys of a prefix in code unit order over all depths, after and limit applied', async () => {
      // '-' < '/' < '0' < 'A' < 'a': a directory's keys sort with its slash, not with its bare name.
      const sorted = ['l/a-b', 'l/a/x', 'l/a/y/z', 'l/a0', 'l/aB', 'l/ab', 'l/b']
      for (const key of [...sorted].reverse()) await ledger.put(key, {})
      await ledger.put('la', {})
      expect(await ledger.list('l/')).toEqual(sorted)
      expect(await ledger.list('l/a')).toEqual(sorted.slice(0, 6))
      expect(await ledger.list('l')).toEqual([...sorted, 'la'])
      expect(await ledger.list('l/a/')).toEqual(['l/a/x', 'l/a/y/z'])
      for (let from = 0; from < sorted.length; from++)
        for (const limit of [0, 1, 3, 100])
          expect(await ledger.list('l/', { after: sorted[from]!, limit })).toEqual(sorted.slice(from + 1, from + 1 + limit))
      expect(await ledger.list('l/', { after: 'l/a/xx' })).toEqual(sorted.slice(2))
      expect(await ledger.list('l/', { after: 'k', limit: 2 })).toEqual(sorted.slice(0, 2))
      expect(await ledger.list('l/', { after: 'm' })).toEqual([])
    })

    it('refuses keys that could leave the ledger or that a file system can not hold', async () => {
      const bad = [
        '',
        '/',
        '/a',
        'a/',
        'a//b',
        '..',
        'a/../b',
        './a',
        '.tmp/x',
        'a b',
        'a\\b',
        'a\0b',
        'ä',
        'a\n',
        'a'.repeat(256),
      ]
      bad.push(`${'abc/'.repeat(300)}d`)
      for (const key of bad) {
        for (const act of [
          () => ledger.get(key),
          () => ledger.put(key, {}),
          () => ledger.create(key, {}),
          () => ledger.touch(key),
        ]) {
          const error = await act().then(
            () => undefined,
            (error) => error,
          )
          expect(error, JSON.stringify(key)).toBeInstanceOf(BakeError)
          expect(error).toMatchObject({ code: 'ledger_key', exit: 2 })
        }
      }
      await expect(ledger.list('../')).rejects.toMatchObject({ code: 'ledger_key' })
      await ledger.put(`long/${'a'.repeat(255)}/v1.2_x@h:1+2-3`, { ok: true })
    })

    it('keeps chunks as bytes under their number, also when one is stored twice', async () => {
      const bytes = Uint8Array.from({ length: 300_000 }, (_, i) => i % 256)
      await ledger.append('contract/log/1', 0, bytes)
      await ledger.append('contract/log/1', 1, Buffer.from('two'))
      await ledger.append('contract/log/1', 1, Buffer.from('two'))
      expect(Buffer.compare((await ledger.chunk('contract/log/1', 0))!, bytes)).toBe(0)
      expect(Buffer.from((await ledger.chunk('contract/log/1', 1))!).toString()).toBe('two')
      expect(await ledger.chunk('contract/log/1', 2)).toBeUndefined()
    })

    it('tells the age of a beat, from the last touch on', async () => {
      await ledger.touch('contract/beat')
      const young = await ledger.age('contract/beat')
      expect(young).toBeGreaterThanOrEqual(0)
      expect(young).toBeLessThan(2_000)
      // S3 tells times in whole seconds.
      await new Promise((resolve) => setTimeout(resolve, 2_100))
      expect(await ledger.age('contract/beat')).toBeGreaterThanOrEqual(1_000)
      await ledger.touch('contract/beat')
      expect(await (await under.another()).age('contract/beat')).toBeLessThan(2_000)
    })
  })
}
