import { expect, test } from 'vitest'
import type { ListedRelease } from '../../src/ami/list.ts'
import type { Baked, RegionalAmi } from '../../src/ami/machine.ts'
import { releaseOfAmi } from '../../src/ami/verify.ts'

const ami = (id: string, region: string) => ({ id, region }) as RegionalAmi
const release = (name: string, baked: Baked[]) =>
  ({ release: { name }, machines: baked.map((each) => ({ baked: each })) }) as ListedRelease
const releases = [
  release('v3', [{ kind: 'disk', path: 'd', format: 'qcow2', sizeBytes: 1 }]),
  release('v2', [{ kind: 'ami', ...ami('ami-2', 'eu-central-1'), copies: [ami('ami-3', 'us-east-1')] }]),
  release('v1', [
    { kind: 'ami', ...ami('ami-2', 'eu-central-1') },
    { kind: 'ami', ...ami('ami-1', 'eu-central-1') },
  ]),
]

test('an AMI is of the newest release that was baked as it', () => {
  expect(releaseOfAmi('ami-2', releases)).toBe('v2')
  expect(releaseOfAmi('ami-1', releases)).toBe('v1')
})

test('an AMI of nobody, and a copy in another region, are refused with what to do', () => {
  expect(() => releaseOfAmi('ami-9', releases)).toThrow(/no release of this project was baked as ami-9/)
  expect(() => releaseOfAmi('ami-3', releases)).toThrow(/ami-3 is a copy of ami-2 in another region/)
})
