import { expect, test } from 'vitest'
import { type Means, rootCandidates, unfitMachine } from '../../../src/ami/direct/fit.ts'

const MEANS: Means = { platform: 'linux', architecture: 'amd64', helper: 'root', missing: [] }
const at = (type: string, length = 1e9, offset = 2 ** 20) => ({ type, offset, length })

test('a machine with a helper and tools changes disks of its own architecture', () => {
  expect(unfitMachine(MEANS, 'amd64')).toBeUndefined()
})

test.each<[string, Partial<Means>, RegExp]>([
  ['another system', { platform: 'darwin' }, /this is darwin/],
  ['a user without a helper', { helper: undefined }, /mounted by root, which this user can't have done/],
  ['another processor', { architecture: 'arm64' }, /for amd64/],
  ['a processor that nobody knows', { architecture: undefined }, /for amd64/],
  ['missing tools', { missing: ['slirp4netns', '/dev/fuse'] }, /no slirp4netns, no \/dev\/fuse \(bin\/setup --machines/],
  ['a missing device', { missing: ['/dev/fuse'] }, /no \/dev\/fuse$/],
])('%s is a reason against it', (_, means, reason) => {
  expect(unfitMachine({ ...MEANS, ...means }, 'amd64')).toMatch(reason)
})

test('the root file system is looked for, the largest one first', () => {
  expect(rootCandidates([at('vfat'), at('ext4', 1e9), at('xfs', 3e9), at('unknown', 9e9)])).toEqual({
    roots: [at('xfs', 3e9), at('ext4', 1e9)],
  })
})

test.each([
  [undefined, 'it has no partition table'],
  [[at('vfat'), at('unknown')], 'it has no ext4 and no xfs file system'],
  [[at('ext4'), at('lvm')], 'its root file system is in LVM'],
  [[at('ext4'), at('luks')], 'its root file system is in LUKS'],
  [[at('btrfs')], 'its root file system is in btrfs'],
])('without one it says why: %j', (found, none) => {
  expect(rootCandidates(found)).toEqual({ none })
})
