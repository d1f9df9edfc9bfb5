/** A line longer than this is told in parts; nobody reads it, and followers hold whole lines. */
const MAX_LINE_BYTES = 64 * 1024
const LF = 0x0a
const CR = 0x0d

export interface LinePart {
  text: string
  more?: true
}

/** Joins the log packets of one stream of one step to lines. A packet may end within a line or a character. */
export class LineJoiner {
  #rest: Buffer = Buffer.alloc(0)

  /** The lines, or parts of a long one, that `packet` completes. Of a line that a progress bar overwrote with CR only what it showed last. */
  add(packet: Buffer): LinePart[] {
    const end = packet.lastIndexOf(LF)
    if (end < 0) {
      this.#rest = compact(Buffer.concat([this.#rest, packet]))
      return this.#overflow()
    }
    const whole = this.#rest.length === 0 ? packet.subarray(0, end) : Buffer.concat([this.#rest, packet.subarray(0, end)])
    this.#rest = compact(Buffer.from(packet.subarray(end + 1)))
    const text = whole.toString('utf8')
    const lines = text.split('\n')
    const shown = text.includes('\r') ? lines.map(lastShown) : lines
    return [...(text.length > MAX_LINE_BYTES ? shown.flatMap(parts) : shown.map((line) => ({ text: line }))), ...this.#overflow()]
  }

  /** What is left without a line end. */
  end(): LinePart[] {
    const rest = this.#rest
    this.#rest = Buffer.alloc(0)
    return rest.length === 0 ? [] : [{ text: lastShown(rest.toString('utf8')) }]
  }

  #overflow(): LinePart[] {
    const told: LinePart[] = []
    while (this.#rest.length > MAX_LINE_BYTES) {
      let cut = MAX_LINE_BYTES
      // UTF-8: 10xxxxxx continues a character.
      while (cut > 1 && (this.#rest[cut]! & 0xc0) === 0x80) cut--
      told.push({ text: this.#rest.toString('utf8', 0, cut), more: true })
      this.#rest = Buffer.from(this.#rest.subarray(cut))
    }
    return told
  }
}

/** The last segment that isn't empty: `10%\r100%\r` is `100%` on a terminal. */
function lastShown(line: string): string {
  const cr = line.lastIndexOf('\r')
  if (cr < 0) return line
  return cr < line.length - 1 ? line.slice(cr + 1) : lastShown(line.slice(0, -1))
}

/** Drops what was overwritten, so that a progress bar without line ends holds no memory. A CR at the end may be half of CR LF. */
function compact(rest: Buffer): Buffer {
  let last = rest.length
  while (last > 0 && rest[last - 1] === CR) last--
  const cr = last > 0 ? rest.lastIndexOf(CR, last - 1) : -1
  return cr < 0 ? rest : Buffer.from(rest.subarray(cr + 1))
}

function parts(line: string): LinePart[] {
  const told: LinePart[] = []
  let at = 0
  while (line.length - at > MAX_LINE_BYTES) {
    let cut = at + MAX_LINE_BYTES
    // Not within a surrogate pair.
    if ((line.charCodeAt(cut) & 0xfc00) === 0xdc00) cut--
    told.push({ text: line.slice(at, cut), more: true })
    at = cut
  }
  told.push({ text: line.slice(at) })
  return told
}
