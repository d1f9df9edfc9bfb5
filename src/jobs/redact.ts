import type { StoryEvent } from '../events.ts'
import { secretForms } from './redact-forms.ts'
import { sieve } from './redact-sieve.ts'

/** What stands where a secret was. */
export const REDACTED = '***'
/** Shorter secrets would blank every `1` or `on` of a log; they are redacted only where they are a text's whole content. */
const MIN_SEARCHED_CHARS = 4
/** RegExp.escape is newer than the TypeScript library this compiles against. */
const escapeRegExp = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
/** Fields that are words of ours, never text from outside. */
const OWN_WORDS: ReadonlySet<string> = new Set(['type', 'state', 'phase', 'level'])

/**
 * Replaces secrets by `***`: each value, each of its lines of 8 characters or more, and their base64, base64url, hex, URL-encoded, JSON-escaped and
 * shell-quoted forms. A value under 4 characters is replaced only where a whole text equals it, spaces around it aside.
 * Holds no state: one for all builds. A log with cut lines goes through `stream()`.
 */
export class Redactor {
  readonly #secrets: string[] = []
  #tiny: ReadonlySet<string> = new Set()
  #pattern: RegExp | undefined
  #mayHold: (text: string) => boolean = () => false
  /** Length of the longest form: nothing shorter can be a part of more than its beginning. */
  #longest = 0

  constructor(secrets: Iterable<string>) {
    this.add(secrets)
  }

  /** From now on these are redacted too: a log begins before its build's secrets are known. */
  add(secrets: Iterable<string>): void {
    this.#secrets.push(...secrets)
    const values = this.#secrets.filter((secret) => secret.trim() !== '')
    this.#tiny = new Set(values.map((value) => value.trim()).filter((value) => value.length < MIN_SEARCHED_CHARS))
    const forms = values.filter((value) => value.trim().length >= MIN_SEARCHED_CHARS).flatMap(secretForms)
    // Longest first: an alternation takes the first that fits, and a form may begin with another.
    const distinct = [...new Set(forms)].sort((a, b) => b.length - a.length)
    this.#mayHold = sieve(distinct)
    this.#longest = distinct[0]?.length ?? 0
    this.#pattern = distinct.length === 0 ? undefined : new RegExp(distinct.map((form) => escapeRegExp(form)).join('|'), 'g')
  }

  text(text: string): string {
    if (this.#tiny.size > 0 && this.#tiny.has(text.trim())) return REDACTED
    if (this.#pattern === undefined || !this.#mayHold(text)) return text
    return text.replace(this.#pattern, REDACTED)
  }

  /** The event with each of its texts redacted; the same object when there was nothing to do. */
  event(event: StoryEvent): StoryEvent {
    if (this.#pattern === undefined && this.#tiny.size === 0) return event
    let redacted: Record<string, unknown> | undefined
    for (const [field, value] of Object.entries(event)) {
      if (typeof value !== 'string' || OWN_WORDS.has(field)) continue
      const text = this.text(value)
      if (text === value) continue
      redacted ??= { ...event }
      redacted[field] = text
    }
    return redacted === undefined ? event : (redacted as StoryEvent)
  }

  /** For the events of one log, in order: also finds a secret that is cut by the end of a `line` with `more`. */
  stream(): RedactedStream {
    return new RedactedStream(this)
  }

  /** Redacts what can't be the beginning of a longer match; `rest` is to be put before what follows. */
  beginning(text: string): { text: string; rest: string } {
    if (this.#pattern === undefined) return { text, rest: '' }
    // A match that starts before this ends within the text; one that starts later may need what follows.
    const undecided = text.length - this.#longest + 1
    let out = ''
    let at = 0
    for (const match of text.matchAll(this.#pattern)) {
      if (match.index >= undecided) break
      out += text.slice(at, match.index) + REDACTED
      at = match.index + match[0].length
    }
    const end = Math.max(at, undecided)
    return { text: out + text.slice(at, end), rest: text.slice(end) }
  }
}

/** Redaction with memory: what may be the beginning of a secret is held back until the next event of its step and stream. */
export class RedactedStream {
  readonly #redactor: Redactor
  readonly #held = new Map<string, Extract<StoryEvent, { type: 'line' }>>()

  constructor(redactor: Redactor) {
    this.#redactor = redactor
  }

  event(event: StoryEvent): StoryEvent {
    if (event.type !== 'line') return this.#redactor.event(event)
    const key = `${event.step}/${event.stream}`
    const held = this.#held.get(key)
    if (held === undefined && event.more === undefined) return this.#redactor.event(event)
    const whole = (held?.text ?? '') + event.text
    this.#held.delete(key)
    if (event.more === undefined) return this.#redactor.event({ ...event, text: whole })
    const { text, rest } = this.#redactor.beginning(whole)
    if (rest !== '') this.#held.set(key, { ...event, text: rest })
    return { ...event, text }
  }

  /** What is still held back, when no more events come. */
  end(): StoryEvent[] {
    const left = [...this.#held.values()].map(({ more: _, ...event }) => this.#redactor.event(event))
    this.#held.clear()
    return left
  }
}
