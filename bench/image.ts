import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { alternate, findBuildx, Raw } from './raw/build.ts'
import { BASE_IMAGE, bakeYaml, median, Project, round, say } from './support.ts'

/** A Node app of a realistic shape: dependencies that rarely change below, source that always does on top. */
const app = (stamp: string): Record<string, string> => ({
  'bake.yaml': bakeYaml({ web: 'web' }),
  'README.md': 'outside every context\n',
  'web/Dockerfile': `FROM ${BASE_IMAGE} AS deps\nWORKDIR /app\nCOPY deps.txt ./\nRUN for i in 1 2 3 4; do head -c 20000000 /dev/urandom > part-$i; sleep 1.5; done\nFROM ${BASE_IMAGE}\nWORKDIR /app\nCOPY --from=deps /app ./deps\nCOPY server.js ./\nRUN node --check server.js\nCMD ["node", "server.js"]\n`,
  'web/deps.txt': `${stamp}\n`,
  'web/server.js': 'console.log(0)\n',
})

export default async function image(runs = 9, parts = ['again', 'line', 'big', 'many', 'cold']): Promise<object> {
  const all: Record<string, (runs: number) => object> = { again, line, big, many, cold }
  return Object.assign({ runs }, ...parts.map((part) => all[part]!(runs)))
}

/** The same commit again, and a new commit that leaves the context alone. */
function again(runs: number): object {
  using project = new Project(app(`again ${Math.random()}`))
  const buildxLog = spyOnBuildx(project)
  project.bake('image')
  const buildxBefore = buildxLog().length
  if (buildxBefore === 0) throw new Error('the first build started no buildx: the spy does not see it')
  const before = project.registryLog.split('\n').length
  const times = Array.from({ length: runs }, () => project.bake('image').ms)
  const asked = project.registryLog
    .split('\n')
    .slice(before - 1)
    .filter((entry) => /"HEAD |"GET |"PUT /.test(entry))
  const started = buildxLog().length - buildxBefore
  const heads = asked.filter((entry) => entry.includes('HEAD')).length
  const retags = Array.from({ length: runs }, (_, n) => {
    project.write({ 'README.md': `${n}\n` })
    project.commit(`outside ${n}`)
    return project.bake('image').ms
  })
  const figures = {
    again_ms: round(median(times)),
    again_buildx_started: started,
    again_heads_per_image: heads / runs,
    again_requests: asked.length / runs,
    retag_ms: round(median(retags)),
  }
  say(
    `same commit again ${figures.again_ms} ms (bar 400), ${figures.again_heads_per_image} HEAD per image, ${started} buildx; context unchanged ${figures.retag_ms} ms (bar 500)`,
  )
  return figures
}

/** Puts a buildx before the real one that notes each start; the lines noted so far. */
function spyOnBuildx(project: Project): () => string[] {
  const config = join(project.dir, '.docker')
  const log = join(config, 'started')
  mkdirSync(join(config, 'cli-plugins'), { recursive: true })
  writeFileSync(log, '')
  writeFileSync(join(config, 'cli-plugins/docker-buildx'), `#!/bin/sh\necho "$*" >> '${log}'\nexec ${findBuildx()} "$@"\n`, {
    mode: 0o755,
  })
  project.env.DOCKER_CONFIG = config
  project.write({ '.gitignore': '.docker/\n' })
  project.commit('spy')
  return () =>
    readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('build '))
}

/** One source line changed, against raw. */
function line(runs: number): object {
  using project = new Project(app(`line ${Math.random()}`))
  project.bake('image')
  using raw = new Raw(join(project.dir, 'web'), project.host.registry, 'line')
  raw.build()
  const pairs = alternate(
    runs,
    (n) => {
      writeFileSync(join(raw.dir, 'server.js'), `console.log('raw ${n} ${Math.random()}')\n`)
      return raw.build()
    },
    (n) => {
      project.write({ 'web/server.js': `console.log('bake ${n} ${Math.random()}')\n` })
      project.commit(`line ${n}`)
      return project.bake('image').ms
    },
  )
  const figures = { line_raw_ms: round(median(pairs.map(([a]) => a))), line_ms: round(median(pairs.map(([, b]) => b))) }
  say(`one line: raw ${figures.line_raw_ms} ms, bake ${figures.line_ms} ms (bar raw + 400)`)
  return figures
}

/** 8,000 files, 80 MB, one line changed; raw on a warm directory without .git. */
function big(runs: number): object {
  const files: Record<string, string | Buffer> = {
    'bake.yaml': bakeYaml({ web: 'web' }),
    'web/Dockerfile': `FROM ${BASE_IMAGE}\nCOPY . /app\n`,
  }
  const filler = Buffer.alloc(10_000)
  for (let n = 0; n < 8_000; n++)
    files[`web/src/${Math.floor(n / 100)}/file-${n}.js`] = Buffer.concat([
      Buffer.from(`// ${n} ${Math.random()}\n`),
      filler.fill(97 + (n % 26)),
    ])
  using project = new Project(files)
  project.bake('image')
  using raw = new Raw(join(project.dir, 'web'), project.host.registry, 'big')
  raw.build()
  const pairs = alternate(
    runs,
    (n) => {
      writeFileSync(join(raw.dir, 'src/1/file-100.js'), `raw ${n} ${Math.random()}\n`)
      return raw.build()
    },
    (n) => {
      project.write({ 'web/src/1/file-100.js': `bake ${n} ${Math.random()}\n` })
      project.commit(`big ${n}`)
      return project.bake('image').ms
    },
  )
  const figures = { big_raw_ms: round(median(pairs.map(([a]) => a))), big_ms: round(median(pairs.map(([, b]) => b))) }
  say(`8,000 files, 80 MB, one line: raw ${figures.big_raw_ms} ms, bake ${figures.big_ms} ms (bar raw + 400)`)
  return figures
}

/** 20 images, one touched: the whole command against building that one alone. */
function many(runs: number): object {
  const names = Array.from({ length: 20 }, (_, n) => `svc-${n}`)
  const files: Record<string, string> = { 'bake.yaml': bakeYaml(Object.fromEntries(names.map((name) => [name, name]))) }
  for (const name of names) {
    files[`${name}/Dockerfile`] = `FROM ${BASE_IMAGE}\nWORKDIR /app\nCOPY server.js ./\nRUN node --check server.js\n`
    files[`${name}/server.js`] = `console.log('${name} ${Math.random()}')\n`
  }
  using project = new Project(files)
  project.bake('image')
  const touch = (text: string) => {
    project.write({ 'svc-3/server.js': `console.log('${text}')\n` })
    project.commit(text)
  }
  const pairs = alternate(
    runs,
    (n) => {
      touch(`one ${n} ${Math.random()}`)
      return project.bake('image', '--image', 'svc-3').ms
    },
    (n) => {
      touch(`many ${n} ${Math.random()}`)
      return project.bake('image').ms
    },
  )
  const figures = { one_ms: round(median(pairs.map(([a]) => a))), many_ms: round(median(pairs.map(([, b]) => b))) }
  say(`20 images, 1 touched: that one ${figures.one_ms} ms, all ${figures.many_ms} ms (bar 2 ×)`)
  return figures
}

/** Cold against raw: BuildKit's cache pruned before each, an empty registry for each: into one that has the base's layers they needn't be pushed. */
function cold(runs: number): object {
  const ratios: number[] = []
  const pairs = alternate(
    runs,
    (n) => {
      using source = new Project(app(`cold raw ${n} ${Math.random()}`))
      source.bake('image', '--dry-run')
      using raw = new Raw(join(source.dir, 'web'), source.host.registry, 'cold')
      raw.prune()
      return raw.build()
    },
    (n) => {
      using project = new Project(app(`cold bake ${n} ${Math.random()}`))
      project.bake('image', '--dry-run')
      using raw = new Raw(join(project.dir, 'web'), project.host.registry, 'unused')
      raw.prune()
      return project.bake('image').ms
    },
  )
  for (const [raw, bake] of pairs) ratios.push(bake / raw)
  const figures = {
    cold_raw_ms: round(median(pairs.map(([a]) => a))),
    cold_ms: round(median(pairs.map(([, b]) => b))),
    cold_ratio: Math.round(median(ratios) * 1000) / 1000,
  }
  say(`cold: raw ${figures.cold_raw_ms} ms, bake ${figures.cold_ms} ms, median of paired ratios ${figures.cold_ratio} (bar 1.05)`)
  return figures
}
