import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { BASE_IMAGE, bakeYaml, Project, peakMb, round, say } from './support.ts'

const FLOOD_BYTES = 200_000_000
const LINE = 'the quick brown fox jumps over the lazy dog 0123456789'

/** Peak RSS: an idle worker; then worker and follower of a build that prints 200 MB, and whether the ledger has all of it. */
export default async function memory(): Promise<object> {
  const lines = Math.floor(FLOOD_BYTES / (LINE.length + 1))
  using project = new Project({
    'bake.yaml': bakeYaml({ web: 'web' }),
    'web/Dockerfile': `FROM ${BASE_IMAGE}\nCOPY stamp /\nRUN yes '${LINE}' | head -n ${lines}\n`,
    'web/stamp': String(Math.random()),
  })
  const worker = project.start(['worker'])
  await once(worker.stderr!, 'data')
  await sleep(5_000)
  const idle = peakMb(worker.pid!)
  say(`idle worker: ${round(idle)} MB`)

  const follower = project.start(['image', '--progress', 'plain'])
  let printed = 0
  follower.stderr!.on('data', (chunk: Buffer) => {
    for (let at = chunk.indexOf(LINE); at !== -1; at = chunk.indexOf(LINE, at + LINE.length)) printed++
  })
  let peak = 0
  const sampling = setInterval(() => {
    try {
      peak = Math.max(peak, peakMb(follower.pid!))
    } catch {
      // Between its exit and ours noticing.
    }
  }, 100)
  const [code] = (await once(follower, 'exit')) as [number | null]
  clearInterval(sampling)
  if (code !== 0) throw new Error(`the follower ended with ${code}`)
  const flooded = peakMb(worker.pid!)
  const logged = countLines(project)
  worker.kill('SIGTERM')
  await once(worker, 'exit')
  const figures = {
    idle_mb: round(idle),
    flood_worker_mb: round(flooded),
    flood_follower_mb: round(peak),
    log_complete: logged === lines,
    lines,
    logged,
    followed_about: printed,
  }
  say(
    `flood of ${lines} lines: worker ${figures.flood_worker_mb} MB, follower ${figures.flood_follower_mb} MB, ledger has ${logged}`,
  )
  return figures
}

/** Counts in what `bake logs` prints, without keeping it. */
function countLines(project: Project): number {
  const { stdout } = project.bake('logs', 'latest')
  return stdout.split('\n').filter((line) => line.endsWith(`| ${LINE}`)).length
}
