/** One line of `packer -machine-readable`: https://developer.hashicorp.com/packer/docs/commands#machine-readable-output */
export type PackerLine =
  /** What Packer says to people, one line of it; `from` is the source (`qemu.machine`) when the line is one of a source's. */
  | { type: 'say' | 'message' | 'error'; from?: string; text: string }
  /** A source that failed, and why. */
  | { type: 'failed'; from: string; text: string }

/** `timestamp,target,type,data…`; undefined for what says nothing to people. A line that is no such line is a message as it is. */
export function parsePackerLine(line: string): PackerLine[] {
  const fields = line.split(',')
  const [time = '', target = '', type = ''] = fields
  if (!/^\d+$/.test(time) || fields.length < 3)
    return line.trim() === '' ? [] : [{ type: 'message', text: stripColours(line.trimEnd()) }]
  const data = fields.slice(3).map(unescaped)
  if (type === 'error') return [{ type: 'failed', from: target, text: stripColours(data[0] ?? '') }]
  const [kind, text = ''] = data
  if (type !== 'ui' || (kind !== 'say' && kind !== 'message' && kind !== 'error')) return []
  return text
    .split('\n')
    .map((part) => spoken(kind, stripColours(part.trimEnd())))
    .filter(({ text }) => text !== '')
}

/** `==> qemu.machine: text` and `    qemu.machine: text`. */
function spoken(type: 'say' | 'message' | 'error', text: string): PackerLine {
  const [, from, rest = ''] = /^(?:==>|\s{3,4})\s*([\w-]+(?:\.[\w-]+)?): ?(.*)$/.exec(text) ?? []
  return from === undefined ? { type, text: text.trimStart() } : { type, from, text: rest }
}

/** Packer's writer escapes commas and line ends so that a record stays a line (packer/ui.go, MachineReadableUi). */
const unescaped = (text: string): string =>
  text.replaceAll('%!(PACKER_COMMA)', ',').replaceAll('\\r', '\r').replaceAll('\\n', '\n')

const stripColours = (text: string): string => text.replace(/\x1b\[[0-9;]*m/g, '')
