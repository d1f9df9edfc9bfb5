import { join } from 'node:path'
import { writeBuilds } from '../test/support/many-builds.ts'
import { bakeYaml, median, Project, round, say } from './support.ts'

const BUILDS = 100_000

/** `bake builds` over a ledger of 100,000 records, whole process. */
export default async function builds(runs = 11): Promise<object> {
  using project = new Project({ 'bake.yaml': bakeYaml({ web: 'web' }), 'web/Dockerfile': 'FROM scratch\n' })
  const [newest] = writeBuilds(join(project.dir, '.bake/ledger'), BUILDS)
  const times = Array.from({ length: runs + 2 }, () => {
    const { ms, stdout } = project.bake('builds')
    if (!stdout.includes(newest!.build)) throw new Error(`the newest build is missing:\n${stdout}`)
    return ms
  }).slice(2)
  const figures = { builds_ms: round(median(times)), runs }
  say(`bake builds over ${BUILDS} records: ${figures.builds_ms} ms (bar 500)`)
  return figures
}
