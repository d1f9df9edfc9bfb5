import { BLOCK_BYTES } from './blocks.ts'

/** In the run's directory: `offset <bytes>` of the file system on the disk, then what `filefrag -v -b512` says of each file that was changed. */
export const EXTENTS = 'extents'
const SECTOR_BYTES = 512
/** More is nothing that a person reads. */
const MOST_PATHS = 20

const FILE = /^File size of (.+) is \d+ \(/
/** `   0:        0..       7:     262144..    262151:      8:  last,eof` */
const EXTENT = /^\s*\d+:\s*\d+\.\.\s*\d+:\s*(\d+)\.\.\s*(\d+):/

/** Which files lie in changed blocks, those with the most blocks first; a block may hold several. Pure. */
export function explainBlocks(changed: readonly number[], extents: string): string[] {
  const wanted = new Set(changed)
  const blocks = new Map<string, Set<number>>()
  const offset = Number(/^offset (\d+)/.exec(extents)?.[1] ?? 0)
  let path = ''
  for (const line of extents.split('\n')) {
    path = FILE.exec(line)?.[1] ?? path
    const [, first, last] = EXTENT.exec(line) ?? []
    if (first === undefined) continue
    const block = (sector: number) => Math.floor((offset + sector * SECTOR_BYTES) / BLOCK_BYTES)
    for (let index = block(Number(first)); index <= block(Number(last)); index++) {
      if (!wanted.has(index)) continue
      const known = blocks.get(path) ?? new Set()
      blocks.set(path, known.add(index))
    }
  }
  const told = new Set([...blocks.values()].flatMap((some) => [...some]))
  const sorted = [...blocks].sort(([a, x], [b, y]) => y.size - x.size || (a < b ? -1 : 1))
  const lines = sorted.slice(0, MOST_PATHS).map(([name, { size }]) => `${size} ${plural(size)} of ${name}`)
  if (sorted.length > MOST_PATHS) lines.push(`and of ${sorted.length - MOST_PATHS} other files and directories`)
  const rest = changed.length - told.size
  if (rest > 0) lines.push(`${rest} ${plural(rest)} of the file system's own tables, and of what was deleted`)
  return lines
}

const plural = (count: number) => (count === 1 ? 'block' : 'blocks')
