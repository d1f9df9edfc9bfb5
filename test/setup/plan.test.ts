import { expect, test } from 'vitest'
import type { Resource } from '../../src/io/aws-resource.ts'
import { stepFor } from '../../src/setup/plan.ts'

const queue: Resource = {
  kind: 'queue',
  name: 'bake',
  settings: { retentionSeconds: 100, encrypted: true, redrive: { to: 'bake-dead', afterReceives: 10 } },
}

const found = (changes: Record<string, unknown>) => ({ settings: { ...queue.settings, other: 'theirs', ...changes } })

test('what is missing is created with all of its settings', () => {
  expect(stepFor(queue, undefined)).toMatchObject({
    action: 'create',
    name: 'bake',
    differences: [{ setting: 'retentionSeconds', to: 100 }, { setting: 'encrypted' }, { setting: 'redrive' }],
  })
})

test('what is as it should be is left alone, whatever else is set on it', () => {
  expect(stepFor(queue, found({ redrive: { afterReceives: 10, to: 'bake-dead' } }))).toBeUndefined()
})

test('what differs is changed, and nothing else', () => {
  expect(stepFor(queue, found({ redrive: { to: 'other', afterReceives: 10 } }))).toEqual({
    action: 'change',
    kind: 'queue',
    name: 'bake',
    differences: [{ setting: 'redrive', from: { to: 'other', afterReceives: 10 }, to: { to: 'bake-dead', afterReceives: 10 } }],
  })
})

test('keeping things longer is no difference, keeping them shorter is', () => {
  expect(stepFor(queue, found({ retentionSeconds: 200 }))).toBeUndefined()
  expect(stepFor(queue, found({ retentionSeconds: 50 }))).toMatchObject({ differences: [{ from: 50, to: 100 }] })
  const bucket: Resource = { kind: 'bucket', name: 'ledger', settings: { expiryDays: { 'logs/': 90, 'beats/': 7 } } }
  const days = (expiryDays: object) => stepFor(bucket, { settings: { expiryDays } })
  expect(days({ 'logs/': 365, 'beats/': 7 })).toBeUndefined()
  expect(days({ 'logs/': 30, 'beats/': 7 })).toBeDefined()
  expect(days({ 'logs/': 90 })).toBeDefined()
})

test('what can’t be had there is not planned', () => {
  const lacking = { ...found({ encrypted: false }), unsupported: { encrypted: 'nothing is' } }
  expect(stepFor(queue, lacking)).toBeUndefined()
})
