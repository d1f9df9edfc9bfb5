import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../src/io/host/ports.ts'
import { swapDocument } from '../src/swap-document.ts'
import { startSwappableStack } from '../test/support/swappable-stack.ts'
import { alternate, Raw } from './raw/build.ts'
import { BASE_IMAGE, median, Project, round, say, timed } from './support.ts'

const STACK = 'bench'

export default async function swap(runs = 9, parts = ['line', 'ten']): Promise<object> {
  const all: Record<string, (runs: number) => Promise<object>> = { line, ten }
  const figures = [{ runs }]
  for (const part of parts) figures.push((await all[part]!(runs)) as { runs: number })
  return Object.assign({}, ...figures)
}

/**
 * One line changed → the new container healthy on a stack of this machine, against raw build, push, pull by tag, docker run and the same health check in a
 * script, in turns.
 */
async function line(runs: number): Promise<object> {
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
    return figures
  } finally {
    timed('docker', ['rm', '--force', container])
    project.bake('swap', '--stack', STACK, '--down')
  }
}

/**
 * An image that is in the registry → healthy on ten instances (machines with engines, behind moto and a stand-in for Run Command), against the same ten
 * documents run in parallel by a script, in turns.
 */
async function ten(runs: number): Promise<object> {
  await using stack = await startSwappableStack(10)
  const { instances, digests, world } = stack
  let to: 'v1' | 'v2' = 'v1'
  const other = () => {
    to = to === 'v1' ? 'v2' : 'v1'
    return to
  }
  const script = (release: 'v1' | 'v2') =>
    swapDocument.mainSteps[0]!.inputs.runCommand.join('\n')
      .replace('{{ Services }}', `web=${digests[release]}`)
      .replace('{{ Mode }}', 'each')
  const byScript = async () => {
    const release = other()
    const began = performance.now()
    const all = await Promise.all(instances.map((instance) => instance.run(script(release))))
    const bad = all.find(({ status }) => status !== 0)
    if (bad) throw new Error(bad.stdout + bad.stderr)
    return performance.now() - began
  }
  const byBake = async () => {
    const args = ['swap', '--stack', stack.stack, '--release', other()]
    const began = performance.now()
    const { code, stderr } = await world.bake(args, { built: true })
    if (code !== 0) throw new Error(stderr)
    return performance.now() - began
  }
  // Every image has been pulled once everywhere.
  await byScript()
  await byScript()
  const pairs: [number, number][] = []
  for (let n = 0; n < runs; n++)
    pairs.push(
      n % 2 === 0 ? [await byScript(), await byBake()] : ([await byBake(), await byScript()].reverse() as [number, number]),
    )
  const figures = {
    ten_script_ms: round(median(pairs.map(([a]) => a))),
    ten_instances_ms: round(median(pairs.map(([, b]) => b))),
  }
  say(`ten instances: script ${figures.ten_script_ms} ms, bake ${figures.ten_instances_ms} ms (bar script + 1000)`)
  return figures
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
