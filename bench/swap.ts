import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../src/io/host/ports.ts'
import { alternate, Raw } from './raw/build.ts'
import { BASE_IMAGE, median, Project, round, say, timed } from './support.ts'

const STACK = 'bench'

/**
 * One line changed → the new container healthy on a stack of this machine, against raw build, push, pull by tag, docker run and the same health check in a
 * script, in turns. Ten instances of a stack on AWS come with those.
 */
export default async function swap(runs = 9): Promise<object> {
  const [ours, theirs] = [await freePort(), await freePort()]
  using project = new Project({
    'bake.yaml': `project: bench
images:
  web: { context: web }
machine:
  base: { disk: base.raw }
  services:
    web: { image: web, ports: ["127.0.0.1:${ours}:3000"], health: { http: "http://127.0.0.1:${ours}/" } }
stacks:
  ${STACK}: { local: true }
`,
    'web/Dockerfile': `FROM ${BASE_IMAGE}\nCOPY server.js /\nCMD ["node", "/server.js"]\n`,
    'web/server.js': server('first'),
  })
  project.bake('swap', '--stack', STACK)
  using raw = new Raw(join(project.dir, 'web'), project.host.registry, 'swap')
  const container = `bake-bench-raw-${process.pid}`
  try {
    rawSwap(raw, container, theirs, 'first')
    const pairs = alternate(
      runs,
      (n) => {
        writeFileSync(join(raw.dir, 'server.js'), server(`raw ${n}`))
        return rawSwap(raw, container, theirs, `n${n}`)
      },
      (n) => {
        project.write({ 'web/server.js': server(`bake ${n}`) })
        project.commit(`line ${n}`)
        return project.bake('swap', '--stack', STACK).ms
      },
    )
    const figures = { raw_ms: round(median(pairs.map(([a]) => a))), swap_ms: round(median(pairs.map(([, b]) => b))) }
    say(`one line: raw ${figures.raw_ms} ms, swap ${figures.swap_ms} ms (bar raw + 1000)`)
    return { runs, ...figures }
  } finally {
    timed('docker', ['rm', '--force', container])
    project.bake('swap', '--stack', STACK, '--down')
  }
}

const server = (text: string) =>
  `require('http').createServer((_, response) => response.end('${text} ${Math.random()}')).listen(3000)\nprocess.on('SIGTERM', () => process.exit())\n`

function rawSwap(raw: Raw, container: string, port: number, tag: string): number {
  const built = raw.build(tag)
  const image = `${raw.repository}:${tag}`
  const script = `docker pull --quiet '${image}' >/dev/null; docker stop '${container}' >/dev/null 2>&1; docker rm '${container}' >/dev/null 2>&1
docker run --detach --name '${container}' --publish 127.0.0.1:${port}:3000 '${image}' >/dev/null
until curl --silent --fail --output /dev/null http://127.0.0.1:${port}/; do sleep 0.1; done`
  return built + timed('sh', ['-c', script]).ms
}
