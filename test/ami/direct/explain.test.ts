import { expect, test } from 'vitest'
import { explainBlocks } from '../../../src/ami/direct/explain.ts'

const EXTENTS = `offset 1048576
Filesystem type is: ef53
File size of /var/lib/a file is 700000 (1368 blocks of 512 bytes)
 ext:     device_logical:        physical_offset: length:   expected: flags:
   0:        0..    1023:       2048..      3071:   1024:
   1:     1024..    1367:      10240..     10583:    344:       3072: last,eof
/var/lib/a file: 2 extents found
File size of /etc/b is 10 (8 blocks of 512 bytes)
   0:        0..       7:       2040..      2047:      8:             last,eof
`

test('tells which files lie in changed blocks, and how many are of none', () => {
  // The file system begins with block 2: its sectors 2048 to 3071 are block 4, 10240 on block 12, 2040 on block 3.
  expect(explainBlocks([3, 4, 12, 90], EXTENTS)).toEqual([
    '2 blocks of /var/lib/a file',
    '1 block of /etc/b',
    "1 block of the file system's own tables, and of what was deleted",
  ])
})

test('leaves out what lies in blocks that are as they were', () => {
  expect(explainBlocks([4], EXTENTS)).toEqual(['1 block of /var/lib/a file'])
})
