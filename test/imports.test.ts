import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

/** Imports go one way (docs/design.md §3). */

const root = fileURLToPath(new URL('..', import.meta.url))
const PIPELINES = ['image', 'ami', 'fleet']
/** Wherever they run, they are the outside world: a test or another machine has another one (rule 9). */
const OUTSIDE = [/^@aws-sdk\//, /^@smithy\//, /^dockerode$/, /^execa$/, /^fauxqs$/, /^(node:)?child_process$/, /^node:sqlite$/]
/** They work without a bake.yaml, so context.ts can't wire them: each has one file that does. */
const OWN_WIRING = ['src/init/world.ts', 'src/doctor/world.ts']

interface Import {
  from: string
  /** A file of src, or a package's name. */
  to: string
  typeOnly: boolean
}

/** What a file belongs to: its directory in src, or for a file of src itself its name when it is a story's entry, else `helper`. */
function layer(path: string): string {
  const [, first = '', second] = path.split('/')
  if (second !== undefined) return first
  const name = first.replace(/\.ts$/, '')
  return ['init', 'doctor', 'setup', 'context', 'config'].includes(name) ? name : 'helper'
}

/** Layers whose values a layer may import; itself, helpers and config always. Of io everyone may import types. */
const MAY_IMPORT: Record<string, string[]> = {
  helper: [],
  config: [],
  io: [],
  jobs: [],
  ...Object.fromEntries(PIPELINES.map((name) => [name, ['jobs']])),
  init: [],
  doctor: [],
  setup: [],
  context: ['io', 'jobs', 'setup', ...PIPELINES],
  cli: ['context', 'init', 'doctor', 'setup', 'jobs', ...PIPELINES],
  commands: ['cli', 'context', 'init', 'doctor', 'setup', 'jobs'],
}

const imports = globSync('src/**/*.ts', { cwd: root }).flatMap(importsOf)
const inside = imports.filter(({ to }) => to.startsWith('src/'))

test('there is something to look at', () => {
  expect(inside.length).toBeGreaterThan(100)
  expect(Object.keys(MAY_IMPORT)).toEqual(expect.arrayContaining(inside.map(({ from }) => layer(from))))
})

test('layers import downwards only', () => {
  const wrong = inside.filter(({ from, to, typeOnly }) => {
    const [importer, imported] = [layer(from), layer(to)]
    if (imported === importer || imported === 'helper' || imported === 'config') return importer === 'io' && imported === 'config'
    if (imported === 'io' && (typeOnly || OWN_WIRING.includes(from))) return false
    return !MAY_IMPORT[importer]?.includes(imported)
  })
  expect(wrong.map(arrow)).toEqual([])
})

test('pipelines know nothing of each other, not even types', () => {
  const wrong = inside.filter(({ from, to }) => {
    const [importer, imported] = [layer(from), layer(to)]
    return PIPELINES.includes(importer) && PIPELINES.includes(imported) && importer !== imported
  })
  expect(wrong.map(arrow)).toEqual([])
})

test('only io imports SDKs and starts processes', () => {
  const wrong = imports.filter(({ from, to }) => layer(from) !== 'io' && OUTSIDE.some((pattern) => pattern.test(to)))
  expect(wrong.map(arrow)).toEqual([])
})

test('only cli and commands know oclif', () => {
  const wrong = imports.filter(({ from, to }) => !['cli', 'commands'].includes(layer(from)) && to.startsWith('@oclif/'))
  expect(wrong.map(arrow)).toEqual([])
})

test('commands are at most 60 lines, files at most 250', () => {
  const lengths = globSync('src/**/*.ts', { cwd: root }).map((path) => [path, lines(path)] as const)
  expect(lengths.filter(([path, count]) => count > (layer(path) === 'commands' ? 60 : 250))).toEqual([])
})

const arrow = ({ from, to }: Import) => `${from} → ${to}`
const lines = (path: string) => readFileSync(join(root, path), 'utf8').split('\n').length - 1

/** Static and dynamic imports and re-exports. `import { type A, type B }` counts as a type import, as it does for the compiler's output. */
function importsOf(from: string): Import[] {
  const text = readFileSync(join(root, from), 'utf8')
  const found: Import[] = []
  const add = (specifier: string, typeOnly: boolean) =>
    found.push({
      from,
      to: specifier.startsWith('.') ? relative(root, join(root, dirname(from), specifier)) : specifier,
      typeOnly,
    })
  for (const [, keyword = '', clause = '', specifier = ''] of text.matchAll(/^(import|export)\s([^'"]*?)from\s+'([^']+)'/gm)) {
    const names = /\{(.*)\}/s
      .exec(clause)?.[1]
      ?.split(',')
      .filter((name) => name.trim() !== '')
    const onlyTypes = names?.every((name) => /^\s*type\s/.test(name)) === true && /^\s*\{/.test(clause)
    add(specifier, /^type\s/.test(clause) || (keyword === 'import' && onlyTypes))
  }
  for (const [, specifier = ''] of text.matchAll(/^import\s+'([^']+)'/gm)) add(specifier, false)
  // `typeof import('x')` and `import('x').Y` are types; `await import('x')` and `import('x').then` are not.
  for (const [, before = '', specifier = '', after = ''] of text.matchAll(/(typeof\s+)?\bimport\(\s*'([^']+)'\s*\)(\.\w+)?/g))
    add(specifier, before !== '' || /^\.[A-Z]/.test(after))
  return found
}
