import { expect, test } from 'vitest'
import type { AmiBase, DiskBase } from '../../src/ami/machine.ts'
import { checkRoom } from '../../src/ami/room.ts'

const GIB = 1024 ** 3
const image = (sizeBytes: number, digest = 'a') => ({
  image: digest,
  repository: 'r',
  digest: `sha256:${digest.repeat(64)}`,
  sizeBytes,
})
const disk = (more: Partial<DiskBase>): DiskBase => ({
  ...{
    kind: 'disk',
    path: '/base.raw',
    format: 'raw',
    sha256: '',
    virtualBytes: 4 * GIB,
    architecture: 'amd64',
    firmware: 'bios',
  },
  ...more,
})
const ami: AmiBase = {
  ...{
    kind: 'ami',
    id: 'ami-1',
    region: 'r',
    name: 'n',
    ownerId: 'o',
    createdAt: 0,
    architecture: 'amd64',
    rootDevice: '/dev/xvda',
  },
  virtualBytes: 8 * GIB,
}

test('what fits passes, and an image that two services use counts once', () => {
  expect(() => checkRoom(disk({ freeBytes: 2 * GIB }), [image(GIB / 2), image(GIB / 2)])).not.toThrow()
  expect(() => checkRoom(disk({ freeBytes: 2 * GIB }), [image(GIB / 2), image(GIB / 2, 'b')])).toThrow(/disk|free/)
})

test('what can’t fit is refused, with what is free, what is needed and the size that would do', () => {
  const refuse = () => checkRoom(disk({ freeBytes: 1 * GIB }), [image(GIB / 2)])
  expect(refuse).toThrow(
    expect.objectContaining({ code: 'disk_too_small', exit: 2, next: expect.stringContaining('a disk of 6 GB would do') }),
  )
  expect(refuse).toThrow('/base.raw has 1.0 GiB free, and the images need 1.8 GiB at least (0.5 GiB in the registry')
})

test('where nobody can tell what is free, a usual system is assumed on it', () => {
  expect(() => checkRoom(disk({}), [image(GIB / 2)])).not.toThrow()
  expect(() => checkRoom(disk({ virtualBytes: 3 * GIB }), [image(GIB / 2)])).toThrow(/free/)
})

test('an AMI’s root volume may be larger than the AMI’s own', () => {
  expect(() => checkRoom(ami, [image(2 * GIB)])).toThrow(
    expect.objectContaining({ next: 'machine.ami.volume.size: 13GB would do' }),
  )
  expect(() => checkRoom(ami, [image(2 * GIB)], 13 * GIB)).not.toThrow()
})
