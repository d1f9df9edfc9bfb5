import { expandWords } from './dockerfile-words.ts'

/** A range of the source, in UTF-16 code units. */
export interface Span {
  start: number
  end: number
}

/** One instruction, continuation lines joined. */
export interface Instruction {
  /** Lower case. */
  keyword: string
  /** All after the keyword, flags included. */
  rest: string
  /** The ranges of the source that hold characters `from` to `to` of `rest`: one for each physical line they touch. */
  spans(from: number, to: number): Span[]
  /** 1-based line of its first character. */
  line: number
}

export interface Directive {
  name: string
  value: string
  line: number
  /** Where the value is. */
  span: Span
}

export interface ParsedDockerfile {
  escape: string
  instructions: Instruction[]
  /** The frontend named by `# syntax=`, up to the first blank. */
  syntax: Directive | undefined
  /** `# escape=`, when there is one. */
  escapeDirective: Directive | undefined
}

/** Physical lines with their line ends, a byte order mark left out. */
function physicalLines(text: string): { text: string; start: number }[] {
  const lines: { text: string; start: number }[] = []
  for (let start = text.startsWith('\ufeff') ? 1 : 0; start < text.length; ) {
    const newline = text.indexOf('\n', start)
    const end = newline < 0 ? text.length : newline + 1
    lines.push({ text: text.slice(start, end), start })
    start = end
  }
  return lines
}

/**
 * Instructions as BuildKit reads them, with their places in the source. A port of frontend/dockerfile/parser/parser.go of moby/buildkit:
 * dockerfile-ast 0.7 takes a line that ends in an escaped `\\` as continued and misses `3<<EOF`, so it would pin and build different stages.
 * Never throws: what is wrong in the file is for BuildKit to report.
 */
export function parseDockerfile(text: string): ParsedDockerfile {
  const lines = physicalLines(text)
  const escapeDirective = directives(lines, '#', true).find(({ name }) => name === 'escape')
  const escapeToken = escapeDirective?.value === '`' ? '`' : '\\'
  const instructions: Instruction[] = []
  for (let i = 0; i < lines.length; ) {
    const first = i
    const pieces: Piece[] = []
    let continued = true
    for (; continued && i < lines.length; i++) {
      const line = lines[i]!
      const content = line.text.replace(/[\r\n]+$/, '')
      const isFirst = i === first
      const indent = isFirst ? content.length - content.trimStart().length : 0
      const isComment = content.trimStart().startsWith('#')
      if (isComment || content.trim() === '') {
        if (isFirst) continued = false
        continue
      }
      const kept = withoutContinuation(content.slice(indent), escapeToken)
      continued = kept !== undefined
      pieces.push({ text: kept ?? content.slice(indent), start: line.start + indent })
    }
    const instruction = toInstruction(pieces, first + 1)
    if (!instruction) continue
    instructions.push(instruction)
    i = afterHeredocs(instruction, lines, i)
  }
  return { escape: escapeToken, instructions, escapeDirective, syntax: syntaxOf(lines) }
}

interface Piece {
  text: string
  /** Offset in the source. */
  start: number
}

/** The line without its continuation mark; undefined when it isn't continued. An escaped escape character (`\\`) continues nothing. */
function withoutContinuation(line: string, escapeToken: string): string | undefined {
  const trimmed = line.replace(/[ \t]+$/, '')
  if (!trimmed.endsWith(escapeToken)) return undefined
  const before = trimmed.slice(0, -1)
  return before.endsWith(escapeToken) ? undefined : before
}

function toInstruction(pieces: Piece[], line: number): Instruction | undefined {
  const whole = pieces.map((piece) => piece.text).join('')
  const match = /^\s*([^\t\v\f\r ]+)[\t\v\f\r ]*/.exec(whole)
  if (!match) return undefined
  const restAt = match[0].length
  const spans = (from: number, to: number): Span[] => {
    const found: Span[] = []
    let at = 0
    for (const { text, start } of pieces) {
      const low = Math.max(from + restAt, at)
      const high = Math.min(to + restAt, at + text.length)
      if (low < high) found.push({ start: start + low - at, end: start + high - at })
      at += text.length
    }
    return found
  }
  return { keyword: match[1]!.toLowerCase(), rest: whole.slice(restAt).trimEnd(), spans, line }
}

/** Index of the line after the instruction's here-documents. One that isn't ended is none: BuildKit reports it. */
function afterHeredocs({ keyword, rest }: Instruction, lines: { text: string }[], next: number): number {
  const inner = keyword === 'onbuild' ? /^\S*/.exec(rest)![0].toLowerCase() : keyword
  if (!['add', 'copy', 'run'].includes(inner) || !rest.includes('<<') || isJson(rest)) return next
  const none = new Map<string, string>()
  const words = expandWords(rest, none, { escape: '\\', rawQuotes: true, rawEscapes: true, keepUnset: true }) ?? []
  let at = next
  for (const word of words) {
    const [, dash, raw] = /^\d*<<(-?)\s*([^<]+)$/.exec(word) ?? []
    const names = raw === undefined ? undefined : expandWords(raw, none, { escape: '\\', keepUnset: true })
    if (names?.length !== 1) continue
    const end = lines.findIndex(({ text }, index) => {
      const content = text.replace(/[\r\n]+$/, '')
      return index >= at && (dash ? content.replace(/^\t+/, '') : content) === names[0]
    })
    if (end >= 0) at = end + 1
  }
  return at
}

/** True for the exec form, where `<<` means nothing. */
const isJson = (rest: string): boolean => jsonStrings(rest.replace(/^(?:--\S+\s+)*/, '')) !== undefined

/** The strings of a JSON array; undefined when it isn't one. */
export function jsonStrings(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined
  } catch {
    return undefined
  }
}

/** The directives at the top; the first line that is none ends them. Source: frontend/dockerfile/parser/directives.go. */
function directives(lines: { text: string; start: number }[], comment: string, indented: boolean, from = 0): Directive[] {
  const found: Directive[] = []
  for (let i = from; i < lines.length; i++) {
    const { text, start } = lines[i]!
    const match = new RegExp(`^(${indented ? '\\s*' : ''}${comment}\\s*)([a-zA-Z][a-zA-Z0-9]*)(\\s*=\\s*)(.+?)\\s*$`).exec(text)
    const name = (match?.[2] ?? '').toLowerCase()
    if (!match || !['syntax', 'escape', 'check'].includes(name) || found.some((one) => one.name === name)) break
    const at = start + match[1]!.length + match[2]!.length + match[3]!.length
    found.push({ name, value: match[4]!, line: i + 1, span: { start: at, end: at + match[4]!.length } })
  }
  return found
}

/** `# syntax=` or `// syntax=`; a `#!` line before it is skipped. The value's first word names the frontend. */
function syntaxOf(lines: { text: string; start: number }[]): Directive | undefined {
  const from = lines[0]?.text.startsWith('#!') ? 1 : 0
  const syntax = [...directives(lines, '#', false, from), ...directives(lines, '//', false, from)].find(
    ({ name }) => name === 'syntax',
  )
  if (!syntax) return undefined
  const value = syntax.value.split(' ')[0]!
  return { ...syntax, value, span: { start: syntax.span.start, end: syntax.span.start + value.length } }
}
