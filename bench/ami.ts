import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { baseDisk } from '../test/support/base-disk.ts'
import { BASE_IMAGE, byPhase, median, Project, round, say, timed, written } from './support.ts'

interface Baked {
  status: 'baked' | 'found'
  image: { path: string }
  phases: { phase: string; seconds: number }[]
}

/**
 * A one-machine bake by phase, the same with one source line changed, and asked for again. `packer_overhead_s`: what of the first bake's time in Packer
 * was none of the work that it is there for (its phases named packer: start, plugins, one upload and SSH session for each step).
 */
export default async function ami(runs = 5): Promise<object> {
  say('the base disk, unless it is there')
  const { disk } = await baseDisk()
  using project = new Project(app(disk))
  // A Packer that notes its starts, in front of the real one.
  const bin = join(project.dir, '.bake-bench')
  const starts = join(bin, 'starts')
  mkdirSync(bin)
  const packer = timed('/bin/sh', ['-c', 'command -v packer']).stdout.trim()
  writeFileSync(join(bin, 'packer'), `#!/bin/sh\necho "$*" >>'${starts}'\nexec '${packer}' "$@"\n`)
  chmodSync(join(bin, 'packer'), 0o755)
  writeFileSync(join(project.dir, '.git/info/exclude'), '.bake-bench\n')
  project.env.PATH = `${bin}${delimiter}${process.env.PATH}`
  const packerStarts = () => (existsSync(starts) ? readFileSync(starts, 'utf8').split('\n').length - 1 : 0)
  const bake = (release: string) => {
    project.git('tag', release)
    const { stdout, ms } = project.bake('ami', '--release', release, '--json')
    return { baked: JSON.parse(stdout) as Baked, ms }
  }

  say('the first bake')
  const first = bake('v1')
  if (packerStarts() === 0) throw new Error('Packer was started and not seen')
  const phases = byPhase(first.baked.phases)
  say(`baked in ${seconds(first.ms)}: ${written(phases)}`)

  const before = packerStarts()
  const again: number[] = []
  for (let n = 0; n < runs; n++) {
    const { baked, ms } = bake(`again-${n}`)
    if (baked.status !== 'found' || baked.image.path !== first.baked.image.path)
      throw new Error(`not found again: ${JSON.stringify(baked)}`)
    again.push(ms)
  }
  const started = packerStarts() - before
  say(`again: ${Math.round(median(again))} ms (bar 1000), Packer started ${started} times`)

  project.write({ 'web/index.html': 'a line changed\n' })
  project.commit('one line')
  const line = bake('v2')
  const linePhases = byPhase(line.baked.phases)
  say(`one line changed: ${seconds(line.ms)}: ${written(linePhases)}`)
  return {
    runs,
    again_ms: round(median(again)),
    packer_started: started,
    phases_s: phases,
    line_phases_s: linePhases,
    packer_overhead_s: phases.packer ?? 0,
  }
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(0)} s`

/** A service of the example base's shape: Debian below, an application's files on top. */
const app = (disk: string): Record<string, string | Buffer> => ({
  'bake.yaml': `project: bench
images:
  web: { context: web }
machine:
  base: { disk: ${disk} }
  baker: packer
  services:
    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/", within: 3m } }
`,
  'web/Dockerfile': `FROM ${BASE_IMAGE}\nCOPY --chmod=755 busybox /bin/busybox\nCOPY index.html /www/\nCMD ["/bin/busybox", "httpd", "-f", "-p", "3000", "-h", "/www"]\n`,
  'web/busybox': readFileSync('/bin/busybox'),
  'web/index.html': 'a line\n',
})
