/** Which of BuildKit's modes of reading a word applies. */
export interface WordOptions {
  /** `\`, or what `# escape=` says. */
  escape: string
  /** Keep quotes in the result. */
  rawQuotes?: boolean
  /** Keep escape characters in the result. */
  rawEscapes?: boolean
  /** Leave variables alone that have no value, instead of replacing them by nothing. */
  keepUnset?: boolean
}

type Environment = ReadonlyMap<string, string>

/**
 * Quotes removed, `$x`, `${x}`, `${x:-word}`, `${x-word}`, `${x:+word}`, `${x+word}`, `${x:?word}`, `${x?word}`, `${x#pattern}`, `${x%pattern}` and
 * `${x/pattern/word}` replaced. Undefined when BuildKit would report an error (bad substitution, open quote), so that BuildKit gets to report it.
 * Source: frontend/dockerfile/shell/lex.go of moby/buildkit.
 */
export function expand(text: string, environment: Environment, options: WordOptions): string | undefined {
  return read(text, environment, options)?.result
}

/** The same, split at blanks that aren't quoted, after expansion. */
export function expandWords(text: string, environment: Environment, options: WordOptions): string[] | undefined {
  return read(text, environment, options)?.words
}

function read(text: string, environment: Environment, options: WordOptions): Words | undefined {
  try {
    return new Lexer(text, environment, options).until(undefined, options.rawEscapes ?? false)
  } catch (error) {
    if (error instanceof BadWord) return undefined
    throw error
  }
}

class BadWord extends Error {}

const isSpace = (character: string) => /\s/.test(character)

class Words {
  result = ''
  readonly words: string[] = []
  #word = ''
  /** Characters that may end a word. */
  add(text: string) {
    this.result += text
    for (const character of text) {
      if (!isSpace(character)) this.#word += character
      else this.end()
    }
  }
  /** Characters that stay together. */
  addQuoted(text: string) {
    this.result += text
    this.#word += text
  }
  end() {
    if (this.#word !== '') this.words.push(this.#word)
    this.#word = ''
  }
}

class Lexer {
  #at = 0
  #rawEscapes: boolean
  readonly #text: string
  readonly #environment: Environment
  readonly #options: WordOptions
  constructor(text: string, environment: Environment, options: WordOptions) {
    this.#text = text
    this.#environment = environment
    this.#options = options
    this.#rawEscapes = options.rawEscapes ?? false
  }

  get #peek(): string {
    return this.#text.charAt(this.#at)
  }
  #next(): string {
    return this.#text.charAt(this.#at++)
  }

  /** Reads to `stop` or, without one, to the end. */
  until(stop: string | undefined, rawEscapes: boolean): Words {
    const before = this.#rawEscapes
    this.#rawEscapes = rawEscapes
    const words = new Words()
    while (this.#peek !== '') {
      const character = this.#next()
      if (character === stop) {
        this.#rawEscapes = before
        words.end()
        return words
      }
      if (character === '$') words.add(this.#dollar())
      else if (character === "'") words.addQuoted(this.#singleQuoted())
      else if (character === '"') words.addQuoted(this.#doubleQuoted())
      else if (character === '<') words.addQuoted(this.#heredocMark())
      else if (character === this.#options.escape) {
        if (this.#rawEscapes) words.addQuoted(character)
        words.addQuoted(this.#next())
      } else words.add(character)
    }
    if (stop !== undefined) throw new BadWord()
    words.end()
    return words
  }

  /** `<< EOF` is one word. */
  #heredocMark(): string {
    if (this.#peek !== '<') return '<'
    const [mark] = /^<[\t\r ]*/.exec(this.#text.slice(this.#at))!
    this.#at += mark.length
    return `<${mark}`
  }

  #singleQuoted(): string {
    const end = this.#text.indexOf("'", this.#at)
    if (end < 0) throw new BadWord()
    const inside = this.#text.slice(this.#at, end)
    this.#at = end + 1
    return this.#options.rawQuotes ? `'${inside}'` : inside
  }

  #doubleQuoted(): string {
    const quote = this.#options.rawQuotes ? '"' : ''
    let inside = quote
    for (;;) {
      const character = this.#next()
      if (character === '') throw new BadWord()
      if (character === '"') return inside + quote
      if (character === '$') inside += this.#dollar()
      else if (character === this.#options.escape) {
        if (this.#rawEscapes) inside += character
        const escapable = this.#peek === '"' || this.#peek === '$' || this.#peek === this.#options.escape
        if (this.#peek !== '') inside += escapable ? this.#next() : character
      } else inside += character
    }
  }

  #dollar(): string {
    if (this.#peek !== '{') {
      const name = this.#name()
      if (name === '') return '$'
      return this.#environment.get(name) ?? (this.#options.keepUnset ? `$${name}` : '')
    }
    this.#next()
    if (['', '{', '}', ':'].includes(this.#peek)) throw new BadWord()
    const name = this.#name()
    const value = this.#environment.get(name)
    let operator = this.#next()
    if (operator === '}') return value ?? (this.#options.keepUnset ? `\${${name}}` : '')
    if (operator === '/') return this.#replaced(name, value)
    const emptyCounts = operator === ':'
    if (emptyCounts) operator = this.#next()
    const isPattern = operator === '#' || operator === '%'
    if (!'+-?#%'.includes(operator) || operator === '' || (emptyCounts && isPattern)) throw new BadWord()
    const word = this.until('}', isPattern).result
    if (value === undefined && this.#options.keepUnset) return `\${${name}${emptyCounts ? ':' : ''}${operator}${word}}`
    const missing = value === undefined || (emptyCounts && value === '')
    if (operator === '-') return missing ? word : value
    if (operator === '+') return missing ? '' : word
    if (operator === '?') {
      if (missing) throw new BadWord()
      return value
    }
    return trimPattern(value ?? '', word, operator)
  }

  #replaced(name: string, value: string | undefined): string {
    const all = this.#peek === '/'
    if (all) this.#next()
    const pattern = this.until('/', true).result
    const replacement = this.until('}', true).result
    if (value === undefined && this.#options.keepUnset) return `\${${name}/${pattern}/${replacement}}`
    return (value ?? '').replace(new RegExp(regexOf(pattern, true), all ? 'g' : ''), () => replacement)
  }

  #name(): string {
    const [name] = /^(?:\d+|[@*#?\-$!0]|[\p{L}_][\p{L}\p{Nd}_]*)?/u.exec(this.#text.slice(this.#at))!
    this.#at += name.length
    return name
  }
}

/** A shell pattern as a regular expression: `?` is one character, `*` the shortest or longest text. */
function regexOf(pattern: string, greedy: boolean): string {
  let out = ''
  for (let i = 0; i < pattern.length; i++) {
    const character = pattern.charAt(i)
    if (character === '*') out += greedy ? '.*' : '.*?'
    else if (character === '?') out += '.'
    else if (character === '\\') {
      const escaped = pattern.charAt(++i)
      if (!['*', '?', '\\', '}', '/'].includes(escaped)) throw new BadWord()
      out += `\\${escaped}`
    } else out += character.replace(/[[\]{}.+()|^$]/, '\\$&')
  }
  return out
}

function trimPattern(value: string, word: string, operator: string): string {
  const greedy = word.startsWith(operator)
  const pattern = greedy ? word.slice(1) : word
  if (operator === '#') return value.replace(new RegExp(`^${regexOf(pattern, greedy)}`), '')
  const suffix = new RegExp(`^${regexOf(pattern, true)}$`)
  // The longest suffix starts leftmost, the shortest rightmost.
  for (let i = 0; i <= value.length; i++) {
    const at = greedy ? i : value.length - i
    if (suffix.test(value.slice(at))) return value.slice(0, at)
  }
  return value
}
