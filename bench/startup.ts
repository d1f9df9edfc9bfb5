import { join } from 'node:path'
import { BAKE, median, ROOT, round, say, timed } from './support.ts'

/** `bake --version` and `bake image --help`, whole process, minus a bare node of the same binary in the same round. */
export default async function startup(runs = 21): Promise<object> {
  const node = join(ROOT, 'node_modules/.bin/node')
  const rounds = Array.from({ length: runs + 2 }, () => ({
    node: timed(node, ['-e', '0']).ms,
    version: timed(BAKE, ['--version']).ms,
    help: timed(BAKE, ['image', '--help']).ms,
  })).slice(2)
  const figures = {
    node_ms: round(median(rounds.map((each) => each.node))),
    version_ms: round(median(rounds.map((each) => each.version - each.node))),
    help_ms: round(median(rounds.map((each) => each.help - each.node))),
    runs,
  }
  say(
    `node ${figures.node_ms} ms; over it: --version ${figures.version_ms} ms (bar 90), image --help ${figures.help_ms} ms (bar 120)`,
  )
  return figures
}
