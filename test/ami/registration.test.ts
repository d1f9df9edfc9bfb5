import { describe, expect, test } from 'vitest'
import { checkRegistration } from '../../src/ami/check-registration.ts'
import { copyRegions, kmsKeyIn, registrationOf, registrationSteps } from '../../src/ami/registration.ts'
import type { MachineDefinition } from '../../src/config.ts'
import type { Ec2Image } from '../../src/io/ec2-image.ts'
import { amiPlan } from '../support/aws-plan.ts'

const NOW = Date.UTC(2026, 10, 21)
const DAY_MS = 86_400_000

const image = (more: Partial<Ec2Image> = {}): Ec2Image => ({
  ...{ id: 'ami-1', region: 'us-east-1', name: 'shop-1', ownerId: '123456789012', state: 'available', createdAt: NOW },
  ...{ architecture: 'x86_64', rootDeviceType: 'ebs', rootDevice: '/dev/xvda', rootBytes: 1, snapshots: ['snap-1'] },
  ...{ encrypted: false, productCodes: [], imdsV2: false, protected: false, public: false, tags: { 'bake:run': 'r' } },
  ...{ billing: { platform: 'Linux/UNIX', operation: 'RunInstances' }, hardware: { virtualization: 'hvm', ena: true } },
  ...more,
})

describe('what has to be done to an image', () => {
  const everything = amiPlan({
    ami: {
      shareWith: ['111122223333'],
      deprecateAfterSeconds: 90 * 86_400,
      protect: true,
      tags: { team: 'a', 'bake:run': 'theirs' },
    },
  })

  test('everything that is asked for, protection last', () => {
    const wanted = registrationOf(everything, image())
    expect(registrationSteps(wanted, { image: image(), sharedWith: [] }, NOW)).toEqual([
      {
        action: 'tag',
        tags: { Name: 'shop-1', team: 'a', 'bake:project': 'shop', 'bake:inputs': 'd'.repeat(64), 'bake:proven': 'false' },
      },
      { action: 'require-imds-v2' },
      { action: 'deprecate', at: NOW + 90 * DAY_MS },
      { action: 'share', accounts: ['111122223333'] },
      { action: 'protect' },
    ])
  })

  test('nothing, once it is so; what others added stays', () => {
    const wanted = registrationOf(everything, image())
    const done = image({
      tags: { ...wanted.tags, other: 'theirs' },
      imdsV2: true,
      deprecatedAt: NOW + 90 * DAY_MS + 20_000,
      protected: true,
    })
    expect(registrationSteps(wanted, { image: done, sharedWith: ['444455556666', '111122223333'] }, NOW)).toEqual([])
  })

  test('IMDSv2 whatever is asked for, and tags', () => {
    const wanted = registrationOf(amiPlan(), image())
    expect(registrationSteps(wanted, { image: image(), sharedWith: [] }, NOW).map(({ action }) => action)).toEqual([
      'tag',
      'require-imds-v2',
    ])
  })

  test('an image that is older than it may get is deprecated soon, once', () => {
    const old = image({ createdAt: NOW - 200 * DAY_MS, imdsV2: true })
    const wanted = { ...registrationOf(everything, old), tags: {}, share: [], protect: false }
    const steps = registrationSteps(wanted, { image: old, sharedWith: [] }, NOW)
    expect(steps).toEqual([{ action: 'deprecate', at: expect.any(Number) }])
    expect((steps[0] as { at: number }).at).toBeGreaterThan(NOW)
    const since = image({ ...old, deprecatedAt: NOW - DAY_MS })
    expect(registrationSteps(wanted, { image: since, sharedWith: [] }, NOW)).toEqual([])
  })

  test('an image stays proven', () => {
    expect(registrationOf(amiPlan(), image({ tags: { 'bake:proven': 'true' } })).tags['bake:proven']).toBe('true')
  })
})

test('copies go to each other region once', () => {
  const { definition } = amiPlan({ ami: { regions: ['eu-west-1', 'us-east-1', 'eu-west-1', 'us-west-2'] } })
  expect(copyRegions(definition, 'us-east-1')).toEqual(['eu-west-1', 'us-west-2'])
})

test.for([
  ['alias/shop', 'alias/shop'],
  ['mrk-1234abcd12ab34cd56ef1234567890ab', 'mrk-1234abcd12ab34cd56ef1234567890ab'],
  ['arn:aws:kms:us-east-1:123456789012:alias/shop', 'arn:aws:kms:eu-west-1:123456789012:alias/shop'],
  ['arn:aws:kms:us-east-1:123456789012:key/mrk-12', 'arn:aws:kms:eu-west-1:123456789012:key/mrk-12'],
  ['arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab', undefined],
  ['1234abcd-12ab-34cd-56ef-1234567890ab', undefined],
] as const)('a key of another region: %s', ([key, expected]) => {
  expect(kmsKeyIn(key, 'eu-west-1')).toBe(expected)
})

describe('options that can’t be had are refused before anything is made', () => {
  const check = (ami: Partial<MachineDefinition['ami']>, baker: 'packer' | 'direct' = 'packer') => {
    checkRegistration(amiPlan({ ami }).definition, 'us-east-1', baker)
  }
  const cases: [string, Partial<MachineDefinition['ami']>, RegExp][] = [
    ['a boot mode, with Packer', { bootMode: 'uefi' }, /boot_mode uefi .* Packer/],
    ['a region of another partition', { regions: ['cn-north-1'] }, /cn-north-1, another partition/],
    [
      'a key of one region for several',
      { regions: ['eu-west-1'], kmsKey: '1234abcd-12ab' },
      /eu-west-1 need one too.*multi-region/,
    ],
    ['sharing what AWS’s own key encrypts', { shareWith: ['111122223333'], kmsKey: 'alias/aws/ebs' }, /share_with/],
    ['a volume that can’t boot', { volume: { type: 'st1' } }, /st1 can't boot/],
    ['throughput without gp3', { volume: { type: 'gp2', throughputMiBs: 500 } }, /throughput is for gp3/],
    ['io2 without iops', { volume: { type: 'io2' } }, /needs volume.iops/],
    ['iops of gp2', { volume: { type: 'gp2', iops: 4000 } }, /volume.iops is for/],
    ['eleven years', { deprecateAfterSeconds: 11 * 365 * 86_400 }, /10 years/],
    ['bake’s own tags', { tags: { 'bake:proven': 'true' } }, /bake:proven is reserved/],
    ['AWS’s tags', { tags: { 'aws:x': 'y' } }, /aws:x is reserved/],
    ['tags that are too long', { tags: { key: 'x'.repeat(300) } }, /too long/],
  ]
  test.for(cases)('%s', ([, ami, message]) => {
    expect(() => check(ami)).toThrow(
      expect.objectContaining({ code: 'bad_ami_options', exit: 2, message: expect.stringMatching(message) }),
    )
  })

  test('all at once', () => {
    expect(() => check({ bootMode: 'uefi', volume: { type: 'sc1' } })).toThrow(/boot_mode.*; volume.type sc1/)
  })

  test('and what can be had is taken', () => {
    check({ bootMode: 'uefi' }, 'direct')
    check({
      regions: ['us-east-1', 'eu-west-1'],
      kmsKey: 'alias/shop',
      shareWith: ['111122223333'],
      deprecateAfterSeconds: 86_400,
    })
    check({ volume: { sizeBytes: 1e10, throughputMiBs: 500, iops: 4000 }, tags: { team: 'a' } })
    check({ kmsKey: '1234abcd-12ab' })
  })
})
