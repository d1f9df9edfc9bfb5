import { truncate, width } from './width.ts'

export interface Column<T> {
  title: string
  /** Plain text: paint it with `paint`, so that cutting never cuts a colour. */
  value: (row: T) => string
  /** Numbers and sizes. */
  right?: boolean
  /** May be cut when the terminal is too narrow; the widest such column is cut first. */
  shrink?: boolean
  /** The fewest cells that it is cut to; MIN_CELLS unless told. */
  least?: number
  paint?: (text: string, row: T) => string
}

export interface TableOptions {
  /** Cells of the terminal; undefined for a pipe: nothing is cut. */
  columns: number | undefined
  paintTitle?: (text: string) => string
}

/** A column is not cut below this many cells: less tells nothing. */
const MIN_CELLS = 8
const GAP = '  '

/** Rows as aligned lines under a line of titles; `(none)`-like answers for no rows are the caller's. Lines have no trailing blanks. */
export function table<T>(rows: readonly T[], columns: readonly Column<T>[], options: TableOptions): string[] {
  const cells = rows.map((row) => columns.map((column) => column.value(row)))
  const widths = columns.map((column, i) => Math.max(width(column.title), ...cells.map((line) => width(line[i]!))))
  if (options.columns !== undefined) shrink(widths, columns, options.columns)
  const line = (texts: readonly string[], paint: (text: string, i: number) => string): string =>
    texts
      .map((text, i) => {
        const cut = truncate(text, widths[i]!)
        const blanks = ' '.repeat(widths[i]! - width(cut))
        if (columns[i]!.right) return blanks + paint(cut, i)
        return paint(cut, i) + (i === texts.length - 1 ? '' : blanks)
      })
      .join(GAP)
      .trimEnd()
  return [
    line(
      columns.map((column) => column.title),
      (text) => options.paintTitle?.(text) ?? text,
    ),
    ...cells.map((texts, r) => line(texts, (text, i) => columns[i]!.paint?.(text, rows[r]!) ?? text)),
  ]
}

/** Takes cells from the widest shrinkable column until the table fits, or none can give any more. */
function shrink<T>(widths: number[], columns: readonly Column<T>[], room: number): void {
  const total = () => widths.reduce((sum, cells) => sum + cells, 0) + GAP.length * (widths.length - 1)
  while (total() > room) {
    let widest = -1
    columns.forEach((column, i) => {
      if (column.shrink && widths[i]! > (column.least ?? MIN_CELLS) && (widest < 0 || widths[i]! > widths[widest]!)) widest = i
    })
    if (widest < 0) return
    widths[widest]!--
  }
}
