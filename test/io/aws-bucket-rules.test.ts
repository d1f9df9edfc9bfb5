import type { LifecycleRule } from '@aws-sdk/client-s3'
import { describe, expect, test } from 'vitest'
import { expiryOf, isTlsOnly, NO_POLICY, withExpiry, withTlsOnly } from '../../src/io/aws-bucket-rules.ts'

const rule = (prefix: string, days: number, more: Partial<LifecycleRule> = {}): LifecycleRule => ({
  ID: `rule-${prefix}`,
  Status: 'Enabled',
  Filter: { Prefix: prefix },
  Expiration: { Days: days },
  ...more,
})

describe('lifecycle rules', () => {
  test('those of others stay, those that are missing or too early are made', () => {
    const theirs = [rule('reports/', 1), rule('logs/', 365), rule('beats/', 1)]
    const rules = withExpiry(theirs, { 'logs/': 90, 'beats/': 7, 'one/asks/': 30 })
    expect(rules).toEqual([
      rule('reports/', 1),
      rule('logs/', 365),
      rule('beats/', 7, { ID: 'bake-beats' }),
      rule('one/asks/', 30, { ID: 'bake-one-asks' }),
    ])
  })

  test('made once, they are found again, in the older form too', () => {
    const once = withExpiry([], { 'logs/': 90 })
    expect(withExpiry(once, { 'logs/': 90 })).toEqual(once)
    const { Filter: _, ...older } = rule('logs/', 90)
    expect(expiryOf([{ ...older, Prefix: 'logs/' } as LifecycleRule], 'logs/')).toBe(90)
  })

  test('one that is switched off, says less, or is about other objects too, counts for nothing', () => {
    expect(expiryOf([rule('logs/', 90, { Status: 'Disabled' })], 'logs/')).toBeUndefined()
    expect(expiryOf([rule('logs/', 90, { Filter: { And: { Prefix: 'logs/', Tags: [] } } })], 'logs/')).toBeUndefined()
    expect(expiryOf([rule('', 90)], 'logs/')).toBeUndefined()
  })

  test('one of bake’s that was switched off is put in place again, not beside', () => {
    const off = withExpiry([], { 'logs/': 90 }).map((each) => ({ ...each, Status: 'Disabled' as const }))
    expect(withExpiry(off, { 'logs/': 90 })).toEqual(withExpiry([], { 'logs/': 90 }))
  })
})

test('a policy that takes TLS only keeps what it said, and is known again', () => {
  const theirs = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: '*' }] }
  const policy = withTlsOnly(theirs, 'ledger', 'aws-cn')
  expect(policy.Statement[0]).toEqual(theirs.Statement[0])
  expect(policy.Statement[1]).toMatchObject({ Effect: 'Deny', Resource: ['arn:aws-cn:s3:::ledger', 'arn:aws-cn:s3:::ledger/*'] })
  expect([policy, theirs, NO_POLICY].map(isTlsOnly)).toEqual([true, false, false])
})
