/** Each writes a value so that what reads the rendered file gets the same value back. NUL is refused: no argument, variable or file name can hold it. */

const CONTROL = /[\0-\x1f\x7f]/g

const wellFormed = (value: unknown): string => {
  const text = String(value)
  if (text.includes('\0')) throw new Error(`${JSON.stringify(text)} holds a NUL character`)
  return text.toWellFormed()
}

const hex = (character: string, digits: number): string => character.charCodeAt(0).toString(16).padStart(digits, '0')

/** A word of POSIX sh (Shell Command Language, 2.2.2 Single-Quotes). */
export const sh = (value: unknown): string => `'${wellFormed(value).replaceAll("'", `'\\''`)}'`

/**
 * A quoted template of HCL2 (hcl/hclsyntax/spec.md, "Template Expressions"). `${` and `%{` open templates and double their first character; in a run such as
 * `$${` that would mean something else, so there each is written by its number.
 */
export const hcl = (value: unknown): string => {
  const inner = wellFormed(value)
    .replace(/[\\"]/g, '\\$&')
    .replace(/[$%]+(?=\{)/g, (run) => (run.length === 1 ? run + run : run.replace(/./g, (one) => `\\u${hex(one, 4)}`)))
    .replace(CONTROL, (one) => ({ '\n': '\\n', '\r': '\\r', '\t': '\\t' })[one] ?? `\\u${hex(one, 4)}`)
  return `"${inner}"`
}

/** The same for a setting that Packer's plugins read as a Go template (text/template) besides: nearly every one of them. */
export const packer = (value: unknown): string => hcl(wellFormed(value).replaceAll('{{', '{{`{{`}}'))

/** Characters that mean nothing to systemd wherever they stand in a word. */
const PLAIN = /^[A-Za-z0-9_@:=/.,+-]+$/
const ESCAPES: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\', '"': '\\"' }

/** A word of a unit's setting (systemd.syntax(7), "Quoting"; systemd.unit(5), "Specifiers"): not of a command line. */
export const unit = (value: unknown): string => {
  const text = wellFormed(value).replaceAll('%', '%%')
  return PLAIN.test(text) ? text : `"${text.replace(/[\0-\x1f\x7f\\"]/g, (one) => ESCAPES[one] ?? `\\x${hex(one, 2)}`)}"`
}

/** Arguments of a unit's command line (systemd.service(5), "Command lines"), where `$` names a variable. Not for its first word, the program. */
export const exec = (argv: unknown): string =>
  [argv]
    .flat()
    .map((word) => unit(wellFormed(word).replaceAll('$', '$$$$')))
    .join(' ')
