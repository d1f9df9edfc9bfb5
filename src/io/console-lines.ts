import { StringDecoder } from 'node:string_decoder'

/** A console that never ends its line is cut here: nothing that is read is longer. */
const MAX_LINE_CHARS = 16_384
/** ECMA-48 control sequences, and those that set a terminal's title (OSC). */
const CONTROLS = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_=>78]|[()][0-9A-Za-z])/g

/** Cuts what a serial console sends into lines without control sequences, and keeps the last ones. */
export class ConsoleLines {
  readonly #onLine: (line: string) => void
  readonly #keep: number
  readonly #decoder = new StringDecoder('utf8')
  readonly #last: string[] = []
  #rest = ''

  /** @param keep how many lines `last` gives */
  constructor(onLine: (line: string) => void, keep = 40) {
    this.#onLine = onLine
    this.#keep = keep
  }

  push(data: Uint8Array): void {
    const parts = (this.#rest + this.#decoder.write(Buffer.from(data))).split('\n')
    this.#rest = parts.pop() ?? ''
    if (this.#rest.length > MAX_LINE_CHARS) {
      parts.push(this.#rest)
      this.#rest = ''
    }
    for (const part of parts) this.#line(part)
  }

  /** What has come of a line that isn't ended. */
  end(): void {
    if (this.#rest !== '') this.#line(this.#rest)
    this.#rest = ''
  }

  get last(): string[] {
    return this.#rest.trim() === '' ? [...this.#last] : [...this.#last, clean(this.#rest)]
  }

  #line(raw: string): void {
    const line = clean(raw)
    // Firmware clears screens with lines of nothing.
    if (line.trim() !== '') this.#last.push(line)
    if (this.#last.length > this.#keep) this.#last.shift()
    this.#onLine(line)
  }
}

/** A carriage return within a line starts it again. */
const clean = (raw: string): string =>
  raw
    .replace(CONTROLS, '')
    .replace(/\r+$/, '')
    .replace(/^.*\r/s, '')
    .replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '')
    .trimEnd()
