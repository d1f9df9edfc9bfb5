/** BuildKit's log packets are at most some 44 KB of base64; a graph of a thousand steps is well under this. Anything longer is no value. */
const MAX_VALUE_BYTES = 8 * 1024 * 1024
/** Enough for any error with its excerpt of the Dockerfile. */
const MAX_TEXT_BYTES = 64 * 1024

const LF = 0x0a
const QUOTE = 0x22
const BACKSLASH = 0x5c
const isBlank = (byte: number | undefined) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

/**
 * Splits the stderr of `docker buildx build --progress=rawjson` (https://docs.docker.com/reference/cli/docker/buildx/build/#progress) into JSON objects,
 * on one line each or indented, and text. An object starts on a line of its own or right after another one; all else is text, of which the last 64 KiB are
 * kept. Where the stream is cut into chunks makes no difference. Holds one unfinished object at most.
 */
export class RawJson {
  #buffer: Buffer = Buffer.alloc(0)
  /** Where what isn't decided yet begins, and how far it was looked at. */
  #start = 0
  #at = 0
  #mode: 'between' | 'text' | 'value' = 'between'
  #depth = 0
  #inString = false
  #text: Buffer = Buffer.alloc(0)

  /** What was no object so far, the last 64 KiB of it. */
  get text(): string {
    return this.#text.toString('utf8').trimEnd()
  }

  /** The objects that `chunk` completes, parsed as they are taken. Take them all before the next push. */
  *push(chunk: Uint8Array): Generator<object> {
    const rest = this.#buffer.subarray(this.#start)
    this.#buffer =
      rest.length === 0 ? Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength) : Buffer.concat([rest, chunk])
    this.#at -= this.#start
    this.#start = 0
    while (this.#at < this.#buffer.length) {
      if (this.#mode === 'between') this.#skipBlanks()
      else if (this.#mode === 'text') this.#skipLine()
      else if (this.#scanValue()) {
        const value = this.#parse()
        if (value !== undefined) yield value
      } else if (this.#buffer.length - this.#start > MAX_VALUE_BYTES) this.#reject()
    }
  }

  /** To be called after the last chunk: an object that never ended is text. */
  end(): void {
    if (this.#mode === 'value') this.#keepText(this.#buffer.subarray(this.#start))
    this.#start = this.#at = this.#buffer.length
    this.#mode = 'between'
  }

  /** Blank lines are nobody's; the indentation of text is text. */
  #skipBlanks(): void {
    const buffer = this.#buffer
    while (isBlank(buffer[this.#at])) {
      if (buffer[this.#at++] === LF) this.#start = this.#at
    }
    if (this.#at - this.#start > MAX_TEXT_BYTES) this.#start = this.#at
    if (this.#at === buffer.length) return
    if (buffer[this.#at] === 0x7b) {
      this.#start = this.#at
      this.#mode = 'value'
    } else this.#mode = 'text'
  }

  #skipLine(): void {
    const lf = this.#buffer.indexOf(LF, this.#at)
    const end = lf < 0 ? this.#buffer.length : lf + 1
    this.#keepText(this.#buffer.subarray(this.#start, end))
    this.#start = this.#at = end
    if (lf >= 0) this.#mode = 'between'
  }

  /** Goes on through a value; true at its end. Strings, which are nearly all of it, are passed over by indexOf. */
  #scanValue(): boolean {
    const buffer = this.#buffer
    while (this.#at < buffer.length) {
      if (this.#inString) {
        const quote = buffer.indexOf(QUOTE, this.#at)
        this.#at = quote < 0 ? buffer.length : quote + 1
        if (quote >= 0) this.#inString = this.#isEscaped(quote)
        continue
      }
      const byte = buffer[this.#at++]
      if (byte === QUOTE) this.#inString = true
      else if (byte === 0x7b || byte === 0x5b) this.#depth++
      else if ((byte === 0x7d || byte === 0x5d) && --this.#depth === 0) return true
    }
    return false
  }

  #isEscaped(quote: number): boolean {
    let first = quote
    while (this.#buffer[first - 1] === BACKSLASH) first--
    return (quote - first) % 2 === 1
  }

  #parse(): object | undefined {
    try {
      if (this.#at - this.#start > MAX_VALUE_BYTES) throw new RangeError()
      const value: object = JSON.parse(this.#buffer.toString('utf8', this.#start, this.#at))
      this.#start = this.#at
      this.#mode = 'between'
      return value
    } catch {
      this.#reject()
      return undefined
    }
  }

  /** It looked like an object and is none: its first line is text, and what follows is looked at anew. */
  #reject(): void {
    this.#at = this.#start
    this.#mode = 'text'
    this.#depth = 0
    this.#inString = false
  }

  #keepText(bytes: Uint8Array): void {
    const whole = Buffer.concat([this.#text, bytes.subarray(-MAX_TEXT_BYTES)])
    this.#text = whole.length > MAX_TEXT_BYTES ? Buffer.from(whole.subarray(-MAX_TEXT_BYTES)) : whole
  }
}
