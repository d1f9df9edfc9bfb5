import { Mirror } from '../../src/io/mirror.ts'
import { WorkTree } from '../../src/io/work-tree.ts'

/** A worker to be killed: `move-tree.ts <mirror> <dir> <index> <commit…>` moves from commit to commit without end. */
const [mirrorDir = '', dir = '', index = '', ...commits] = process.argv.slice(2)
const tree = new WorkTree({ mirror: new Mirror(mirrorDir, { allowLocal: true }), dir, index })
const { signal } = new AbortController()
for (let n = 0; ; n++) {
  await tree.move(commits[n % commits.length] as string, { submodules: false, lfs: false, signal })
  process.send?.(n)
}
