import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What a shell makes of words. */
export const readSh = (words: string, shell = 'bash'): string[] =>
  execFileSync(shell, ['-c', `printf '%s\\0' ${words}`], { encoding: 'utf8' })
    .split('\0')
    .slice(0, -1)

/** A quoted template of HCL2 as its specification reads it: escapes by name or number, `$${` and `%%{`; whatever opens a template is an error. */
export function readHcl(literal: string): string {
  if (!/^"[^\n]*"$/.test(literal)) throw new Error(`${literal} is no literal`)
  const named: Record<string, string> = { n: '\n', r: '\r', t: '\t', '"': '"', '\\': '\\' }
  return literal
    .slice(1, -1)
    .replace(/\\u([0-9a-f]{4})|\\(.)|([$%])\3\{|([$%])\{|"/g, (found, number, name, doubled, template) => {
      if (number !== undefined) return String.fromCharCode(Number.parseInt(number, 16))
      if (name !== undefined && named[name] !== undefined) return named[name]
      if (doubled !== undefined) return `${doubled}{`
      throw new Error(`${found}${template ?? ''} in ${literal}`)
    })
}

/** text/template of Go, as far as it is written here: an action is a raw string. */
export const readGo = (text: string): string =>
  text.replace(/\{\{`([^`]*)`\}\}|\{\{/g, (found, raw) => {
    if (raw === undefined) throw new Error(`${found} is open in ${text}`)
    return raw
  })

/** `Name: value` words as systemd's dump shows them: plain, or in quotes with C's escapes. */
function wordsOf(line: string): string[] {
  const words: string[] = []
  const named: Record<string, string> = { n: '\n', r: '\r', t: '\t' }
  for (const [, quoted, plain] of line.matchAll(/"((?:\\.|[^"\\])*)"|([^\s"]+)/g))
    words.push(
      quoted === undefined
        ? plain!
        : quoted.replace(/\\([0-7]{3}|.)/g, (_, code: string) =>
            code.length === 3 ? String.fromCharCode(Number.parseInt(code, 8)) : (named[code] ?? code),
          ),
    )
  return words
}

const SYSTEMD = '/lib/systemd/systemd'
export const hasSystemd = existsSync(SYSTEMD) && spawnSync('systemd-analyze', ['--version']).status === 0

/**
 * The command lines that systemd itself reads from a unit, by the setting's name, as they are run: specifiers are replaced by then, and of the `$` that
 * names no variable one is left. `$VARIABLE` on its own stays.
 */
export function readUnit(name: string, text: string): Record<string, string[]> {
  const dir = mkdtempSync(join(tmpdir(), 'bake-systemd-'))
  try {
    const [units, home] = [join(dir, 'units'), join(dir, 'home')]
    for (const path of [dir, units, home]) {
      mkdirSync(path, { recursive: true })
      chmodSync(path, 0o755)
    }
    writeFileSync(join(units, name), text)
    for (const [, needed] of text.matchAll(/^Requires=(.*)$/gm))
      writeFileSync(join(units, needed!), '[Service]\nExecStart=/bin/true\n')
    // It refuses to try a start as root.
    const nobody = 65534
    if (process.getuid?.() === 0) chownSync(home, nobody, nobody)
    const { stdout } = spawnSync(SYSTEMD, ['--test', '--user', `--unit=${name}`], {
      encoding: 'utf8',
      env: { HOME: home, XDG_RUNTIME_DIR: home, SYSTEMD_UNIT_PATH: `${units}:` },
      timeout: 20_000,
      ...(process.getuid?.() === 0 && { uid: nobody, gid: nobody }),
    })
    const own = stdout.split(/^\s*-> Unit /m).find((part) => part.startsWith(`${name}:`)) ?? ''
    const commands = [...own.matchAll(/^\s*-> (Exec\w+):\n\s*Command Line: (.*)$/gm)]
    return Object.fromEntries(
      commands.map(([, setting, line]) => [setting!, wordsOf(line!).map((word) => word.replaceAll('$$', '$'))]),
    )
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
