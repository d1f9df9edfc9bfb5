import { type Instruction, jsonStrings, type Span } from './dockerfile-lines.ts'

export interface Flag {
  /** `from` of `--from=x`. */
  name: string
  /** After the `=`, quotes and escapes removed; undefined without one. */
  value: string | undefined
  /** The source of characters `from` to `to` of the value. */
  spans(from: number, to: number): Span[]
}

/** The `--flags` of an instruction and what comes after them. Source: frontend/dockerfile/parser/split_command.go of moby/buildkit. */
export function splitFlags(instruction: Instruction, escapeToken: string): { flags: Flag[]; args: string; argsAt: number } {
  const { rest } = instruction
  const flags: Flag[] = []
  let at = 0
  for (;;) {
    while (at < rest.length && /\s/.test(rest.charAt(at))) at++
    if (!rest.startsWith('--', at)) break
    const word = readFlag(rest, at, escapeToken)
    at = word.end
    if (word.text === '--') break
    flags.push(toFlag(instruction, word))
  }
  while (at < rest.length && /\s/.test(rest.charAt(at))) at++
  return { flags, args: rest.slice(at), argsAt: at }
}

interface FlagWord {
  text: string
  /** For each character of `text`, its place in the instruction's rest. */
  places: number[]
  /** One past its last source character, closing quote included. */
  end: number
}

function readFlag(rest: string, start: number, escapeToken: string): FlagWord {
  const word: FlagWord = { text: '', places: [], end: rest.length }
  let quote = ''
  for (let i = start; i < rest.length; i++) {
    let character = rest.charAt(i)
    if (quote === '' && /\s/.test(character)) return { ...word, end: i }
    if (quote === '' ? character === '"' || character === "'" : character === quote) {
      quote = quote === '' ? character : ''
      continue
    }
    if (character === escapeToken) {
      if (i + 1 === rest.length) break
      character = rest.charAt(++i)
    }
    word.text += character
    word.places.push(i)
  }
  return word
}

function toFlag(instruction: Instruction, { text, places }: FlagWord): Flag {
  const equals = text.indexOf('=')
  const valueAt = equals + 1
  return {
    name: equals < 0 ? text.slice(2) : text.slice(2, equals),
    value: equals < 0 ? undefined : text.slice(valueAt),
    spans: (from, to) => (from < to ? instruction.spans(places[valueAt + from]!, places[valueAt + to - 1]! + 1) : []),
  }
}

/** The `from=` of a `--mount` value, which is one line of CSV; the last one counts. `at`: its place in the value. */
export function mountSource(value: string): { source: string; at: number } | undefined {
  let found: { source: string; at: number } | undefined
  for (const field of value.matchAll(/(?:^|,)("(?:[^"]|"")*"|[^,]*)/g)) {
    const quoted = field[1]!.startsWith('"')
    const text = quoted ? field[1]!.slice(1, -1).replaceAll('""', '"') : field[1]!
    const equals = text.indexOf('=')
    if (text.slice(0, Math.max(equals, 0)).toLowerCase() !== 'from') continue
    const fieldAt = field.index + field[0].length - field[1]!.length + (quoted ? 1 : 0)
    found = { source: text.slice(equals + 1), at: fieldAt + equals + 1 }
  }
  return found
}

/** Words split at blanks outside quotes; quotes and escapes stay. Source: parseWords in frontend/dockerfile/parser/line_parsers.go. */
function quotedWords(text: string, escapeToken: string): string[] {
  const words: string[] = []
  let word = ''
  let quote = ''
  for (let i = 0; i < text.length; i++) {
    const character = text.charAt(i)
    if (quote === '' && /\s/.test(character)) {
      if (word !== '') words.push(word)
      word = ''
      continue
    }
    if (quote === '' && (character === '"' || character === "'")) quote = character
    else if (character === quote) quote = ''
    word += character
    if (character === escapeToken && quote !== "'" && i + 1 < text.length) word += text.charAt(++i)
  }
  if (word !== '') words.push(word)
  return words
}

/** The `name=value` pairs of ENV (also `ENV name value`) and ARG (also `ARG name`: no value), unexpanded. */
export function pairs(keyword: 'env' | 'arg', args: string, escapeToken: string): { name: string; value: string | undefined }[] {
  const words = quotedWords(args, escapeToken)
  if (keyword === 'env' && words.length > 0 && !words[0]!.includes('=')) {
    const [, name, value] = /^(\S+)\s+(.*)$/s.exec(args) ?? []
    return name === undefined ? [] : [{ name, value }]
  }
  return words.map((word) => {
    const equals = word.indexOf('=')
    return equals < 0 ? { name: word, value: undefined } : { name: word.slice(0, equals), value: word.slice(equals + 1) }
  })
}

/** The sources of ADD or COPY, here-documents included: all arguments but the last. */
export function sources(args: string): string[] {
  const words = jsonStrings(args) ?? args.split(/[\t\v\f\r ]+/).filter((word) => word !== '')
  return words.slice(0, -1)
}
