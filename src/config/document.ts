import {
  type Document,
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Pair,
  parseDocument as parseYaml,
  visit,
} from 'yaml'
import type { ConfigProblem } from './types.ts'

/** A bake.yaml as plain values, with the way back to its lines. */
export interface SourceDocument {
  /** Undefined when the text is no YAML; then `problems` says why. */
  value: unknown
  problems: ConfigProblem[]
  /** The line of the setting at `path`, or of the nearest one above it that is there; at last 1. */
  lineOf(path: readonly PropertyKey[]): number
  /** Keys of the table at `path` in the order they are written (an object's own order puts numbers first). */
  keysAt(path: readonly PropertyKey[]): string[]
}

/** Maps whose values are text, whatever YAML takes them for: `GO: 1.20` means 1.20 and not 1.2. */
const TEXT_MAPS = new Set(['args', 'env', 'tags', 'options', 'targets'])

/** A bake.yaml comes with the commit; far below what makes a parser slow. */
const MAX_TEXT_CHARS = 1_000_000

/** Parses YAML 1.2 with `<<` merges and aliases; keys that start with `x-` at the top are for the user's own anchors, as in compose. */
export function parseDocument(text: string): SourceDocument {
  if (text.length > MAX_TEXT_CHARS) return broken([{ line: 1, path: '', message: `is larger than ${MAX_TEXT_CHARS} characters` }])
  const lines = new LineCounter()
  const document = parseYaml(text, { lineCounter: lines, prettyErrors: false, merge: true, logLevel: 'error' })
  const problems = [...document.errors, ...document.warnings].map(
    ({ code, message, pos }): ConfigProblem => ({
      line: lines.linePos(pos[0]).line,
      path: '',
      message:
        code === 'DUPLICATE_KEY'
          ? `${keyAt(text, pos[0])} is there twice`
          : `is not valid YAML: ${message.replaceAll('\n', ' ')}`,
    }),
  )
  if (document.errors.some(({ code }) => code !== 'DUPLICATE_KEY')) return broken(problems)
  keepText(document)
  let value: unknown
  try {
    value = document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    return broken([
      ...problems,
      { line: 1, path: '', message: `is not valid YAML: ${error instanceof Error ? error.message : String(error)}` },
    ])
  }
  if (value === null) return broken([...problems, { line: 1, path: '', message: 'is empty' }])
  if (typeof value === 'object' && !Array.isArray(value))
    value = Object.fromEntries(Object.entries(value).filter(([key]) => !key.startsWith('x-')))
  const find = finder(document)
  return {
    value,
    problems,
    lineOf(path) {
      for (let length = path.length; length > 0; length--) {
        const offset = find(path.slice(0, length))?.offset
        if (offset !== undefined) return lines.linePos(offset).line
      }
      return 1
    },
    keysAt: (path) => pairsOf(find(path)?.node, document).map((pair) => keyOf(pair)),
  }
}

const broken = (problems: ConfigProblem[]): SourceDocument => ({
  value: undefined,
  problems,
  lineOf: () => 1,
  keysAt: () => [],
})

const keyAt = (text: string, offset: number): string =>
  /^(?:"[^"\n]*"|'[^'\n]*'|[^\s:,}]+)/.exec(text.slice(offset))?.[0] ?? 'a key'

const keyOf = (pair: Pair): string => (isScalar(pair.key) ? String(pair.key.value) : String(pair.key))

const target = (node: unknown, document: Document): unknown => (isAlias(node) ? node.resolve(document) : node)

/** The pairs of a map, those that `<<` merges into it at the end: a key of the map itself comes first. */
function pairsOf(node: unknown, document: Document): Pair[] {
  const map = target(node, document)
  if (!isMap(map)) return []
  const isMerge = (pair: Pair) => keyOf(pair) === '<<'
  const merged = map.items.filter(isMerge).flatMap((pair) => {
    const source = target(pair.value, document)
    return isSeq(source) ? source.items.flatMap((item) => pairsOf(item, document)) : pairsOf(source, document)
  })
  return [...map.items.filter((pair) => !isMerge(pair)), ...merged]
}

/** Of a key that is there twice the last one counts, as in toJS. */
const pairAt = (node: unknown, key: string, document: Document): Pair | undefined =>
  (isMap(node) ? node.items.findLast((pair) => keyOf(pair) === key) : undefined) ??
  pairsOf(node, document).find((pair) => keyOf(pair) === key)

/** Looks a path up in the nodes: the node there, and where its key (in a list: itself) starts in the text. */
function finder(document: Document) {
  return (path: readonly PropertyKey[]): { node: unknown; offset: number | undefined } | undefined => {
    let found: { node: unknown; offset: number | undefined } = { node: document.contents, offset: undefined }
    for (const part of path) {
      const node = target(found.node, document)
      const next = isSeq(node) ? node.items[Number(part)] : pairAt(node, String(part), document)
      if (next === undefined) return undefined
      found = isPair(next) ? { node: next.value, offset: startOf(next.key) } : { node: next, offset: startOf(next) }
    }
    return found
  }
}

const startOf = (node: unknown): number | undefined =>
  typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range) ? node.range[0] : undefined

/** Gives numbers and booleans in TEXT_MAPS back the text they were written as. */
function keepText(document: Document): void {
  visit(document, {
    Pair(_, pair) {
      if (!TEXT_MAPS.has(keyOf(pair))) return
      for (const { value } of pairsOf(pair.value, document)) {
        const scalar = target(value, document)
        if (isScalar(scalar) && scalar.source !== undefined && ['number', 'boolean'].includes(typeof scalar.value))
          scalar.value = scalar.source
      }
    },
  })
}
