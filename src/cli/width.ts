import { stripVTControlCharacters } from 'node:util'

/** Two cells wide: East Asian scripts and full-width forms (UAX #11, near enough) and what is drawn as an emoji. */
const WIDE =
  /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]|\ufe0f/u
/** No cell of its own: a cluster of nothing but marks, joiners and format characters. */
const ZERO = /^[\p{Mark}\p{Format}\p{Control}\p{Surrogate}]+$/u
const clusters = new Intl.Segmenter()

const widthOf = (cluster: string): number => (ZERO.test(cluster) ? 0 : WIDE.test(cluster) ? 2 : 1)
const isAscii = (text: string): boolean => /^[\x20-\x7e]*$/.test(text)

/** Cells that `text` takes on a terminal; colours take none. */
export function width(text: string): number {
  const bare = text.includes('\x1b') ? stripVTControlCharacters(text) : text
  if (isAscii(bare)) return bare.length
  let cells = 0
  for (const { segment } of clusters.segment(bare)) cells += widthOf(segment)
  return cells
}

/** At most `cells` of `text`, which has no colours; what was cut off shows as `…`. */
export function truncate(text: string, cells: number): string {
  if (cells <= 0) return ''
  // No text of this many code units can be wider, and none is worth measuring whole.
  const head = text.length > cells * 8 ? text.slice(0, cells * 8) : text
  if (head === text && width(text) <= cells) return text
  let [kept, used] = ['', 0]
  for (const { segment } of clusters.segment(head)) {
    used += widthOf(segment)
    if (used > cells - 1) break
    kept += segment
  }
  return `${kept}…`
}

/** Pads to `cells` on the right. */
export const pad = (text: string, cells: number): string => text + ' '.repeat(Math.max(0, cells - width(text)))

/** A line of a build's log as one line of printable text: what a progress bar last showed, tabs as spaces, no cursor moves, no colours. */
export function printable(text: string): string {
  if (isAscii(text)) return text
  const shown =
    text
      .replace(/[\r\n]+$/, '')
      .split('\r')
      .at(-1) ?? ''
  return stripVTControlCharacters(shown)
    .replace(/\t/g, '    ')
    .replace(/[\x00-\x1f\x7f-\x9f]/g, '')
}
