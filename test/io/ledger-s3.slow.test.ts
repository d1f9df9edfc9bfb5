import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { S3Ledger } from '../../src/io/ledger-s3.ts'
import { ledgerContract } from '../support/ledger-contract.ts'
import { MOTO_REGION, type Moto, startMoto, uniqueName } from '../support/moto.ts'

let moto: Moto
let s3: S3Client
let place: { endpoint: string; region: string }
beforeAll(async () => {
  moto = await startMoto()
  place = { endpoint: moto.endpoint, region: MOTO_REGION }
  s3 = new S3Client({ ...place, forcePathStyle: true, credentials: { accessKeyId: 'x', secretAccessKey: 'x' } })
})
afterAll(async () => {
  s3.destroy()
  await moto[Symbol.asyncDispose]()
})

ledgerContract('S3Ledger', async () => {
  const bucket = await moto.createBucket()
  return {
    ledger: new S3Ledger({ ...place, bucket, prefix: 'team-a' }),
    another: async () => new S3Ledger({ ...place, bucket, prefix: 'team-a' }),
    close: async () => {},
  }
})

describe('S3Ledger', () => {
  const open = async (prefix?: string) =>
    new S3Ledger({ ...place, bucket: await moto.createBucket(), ...(prefix === undefined ? {} : { prefix }) })

  it('keeps two fleets on one bucket with different prefixes apart', async () => {
    const bucket = await moto.createBucket()
    const [one, two, ten] = ['fleet-1', 'fleet-2', 'fleet-10'].map((prefix) => new S3Ledger({ ...place, bucket, prefix }))
    const fleets = [one!, two!, ten!]
    for (const [i, fleet] of fleets.entries()) {
      expect(await fleet.create('claims/k/00000000', { by: i })).toBe(true)
      await fleet.append('logs/x/00000000', 0, Buffer.from(`${i}`))
      await fleet.touch(`beats/${i}`)
    }
    for (const [i, fleet] of fleets.entries()) {
      expect(await fleet.list('')).toEqual([`beats/${i}`, 'claims/k/00000000', 'logs/x/00000000/00000000'])
      expect(await fleet.list('', { after: 'beats/9' })).toEqual(['claims/k/00000000', 'logs/x/00000000/00000000'])
      expect(await fleet.get('claims/k/00000000')).toEqual({ by: i })
      expect(await fleet.age(`beats/${i}`)).toBeLessThan(10_000)
      expect(await fleet.age(`beats/${(i + 1) % 3}`)).toBeUndefined()
    }
    const whole = new S3Ledger({ ...place, bucket })
    expect(await whole.list('fleet-1/')).toEqual([
      'fleet-1/beats/0',
      'fleet-1/claims/k/00000000',
      'fleet-1/logs/x/00000000/00000000',
    ])
  })

  it('lists past a page of 1,000, and stops at the limit', async () => {
    const ledger = await open('p')
    const names = Array.from({ length: 1_120 }, (_, i) => `builds/${String(i).padStart(6, '0')}`)
    for (let at = 0; at < names.length; at += 50) await Promise.all(names.slice(at, at + 50).map((name) => ledger.put(name, {})))
    expect(await ledger.list('builds/')).toEqual(names)
    expect(await ledger.list('builds/', { limit: 1_001 })).toEqual(names.slice(0, 1_001))
    expect(await ledger.list('builds/', { after: names[999]!, limit: 100 })).toEqual(names.slice(1_000, 1_100))
  })

  it('writes JSON that other tools can read, as application/json', async () => {
    const bucket = await moto.createBucket()
    await new S3Ledger({ ...place, bucket, prefix: 'p' }).create('images/x', { nonce: 'n', digest: 'd' })
    const answer = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: 'p/images/x' }))
    expect(answer.ContentType).toBe('application/json')
    expect(JSON.parse(await answer.Body!.transformToString())).toEqual({ nonce: 'n', digest: 'd' })
  })

  it.each([
    ['truncated', '{"some":'],
    ['empty', ''],
    ['not an object', '"text"'],
  ])('reports a document that is %s with its place and a next step', async (_, body) => {
    const bucket = await moto.createBucket()
    await s3.send(new PutObjectCommand({ Bucket: bucket, Key: 'p/builds/x', Body: body, ContentLength: body.length }))
    const error = await new S3Ledger({ ...place, bucket, prefix: 'p' }).get('builds/x').catch((error) => error)
    const path = `s3://${bucket}/p/builds/x`
    expect(error).toMatchObject({ code: 'ledger_damaged', exit: 4, kind: 'world', ids: { document: 'builds/x', path } })
    expect(error).toMatchObject({ message: expect.stringContaining(path), next: expect.stringContaining('move') })
  })

  it('says that the bucket is missing and what makes it', async () => {
    const bucket = uniqueName('nowhere')
    const ledger = new S3Ledger({ ...place, bucket, prefix: 'p' })
    const missing = { code: 'ledger_missing', exit: 4, kind: 'world', next: expect.stringContaining('bake setup') }
    await expect(ledger.get('a')).rejects.toMatchObject({ ...missing, ids: { bucket, object: `s3://${bucket}/p/a` } })
    for (const act of [
      () => ledger.put('a', {}),
      () => ledger.create('a', {}),
      () => ledger.list(''),
      () => ledger.touch('a'),
      () => ledger.append('l', 0, Buffer.from('x')),
    ])
      await expect(act()).rejects.toMatchObject(missing)
  })

  it('says that nobody answers, soon', async () => {
    const ledger = new S3Ledger({ endpoint: 'http://127.0.0.1:9', region: MOTO_REGION, bucket: 'b' })
    await expect(ledger.get('a')).rejects.toMatchObject({ code: 'ledger_unreachable', exit: 4, kind: 'world' })
    await expect(ledger.put('a', {})).rejects.toMatchObject({ code: 'ledger_unreachable' })
  })

  it('refuses a prefix that makes keys too long or leaves the bucket', async () => {
    for (const prefix of ['../x', 'a//b', 'x'.repeat(256)])
      await expect(new S3Ledger({ ...place, bucket: 'b', prefix }).get('a')).rejects.toMatchObject({
        code: 'ledger_key',
        exit: 2,
      })
  })
})
