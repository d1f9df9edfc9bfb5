const CODES = { bold: [1, 22], dim: [2, 22], red: [31, 39], green: [32, 39], yellow: [33, 39], cyan: [36, 39] } as const

type Paint = (text: string) => string
export type Palette = Record<keyof typeof CODES, Paint>

/** A stream as far as colours and width are concerned; process.stdout and process.stderr are such. */
export interface Screen {
  isTTY?: boolean
  columns?: number
  rows?: number
}

/**
 * Whether to colour what goes to `stream`. FORCE_COLOR wins over NO_COLOR, as in Node itself; both count when set and not empty
 * (https://no-color.org, https://force-color.org).
 */
export function hasColours(stream: Screen, env: NodeJS.ProcessEnv = process.env): boolean {
  if (env.FORCE_COLOR) return env.FORCE_COLOR !== '0' && env.FORCE_COLOR !== 'false'
  return Boolean(stream.isTTY) && !env.NO_COLOR && env.TERM !== 'dumb'
}

const plain: Paint = (text) => text

/** Paints for `stream`; all of them leave text as it is when colours are off. */
export function palette(on: boolean): Palette {
  const paint = ([open, close]: readonly [number, number]): Paint =>
    on ? (text) => (text === '' ? '' : `\x1b[${open}m${text}\x1b[${close}m`) : plain
  return Object.fromEntries(Object.entries(CODES).map(([name, codes]) => [name, paint(codes)])) as Palette
}
