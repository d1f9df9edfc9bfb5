import { stripVTControlCharacters } from 'node:util'
import { closest, distance } from 'fastest-levenshtein'
import { BakeError, messageOf, refused } from '../errors.ts'

/** What oclif throws for a command line it can't take: CLIError and its children, told by this property (their classes aren't exported). */
interface OclifError extends Error {
  oclif: { exit?: number | false }
  code?: string
  flags?: string[]
  args?: unknown[]
}

const isOclif = (error: unknown): error is OclifError =>
  error instanceof Error && 'oclif' in error && typeof error.oclif === 'object' && error.oclif !== null

/** True for what oclif itself throws when it finds no command for a command line. */
export const isUnfound = (error: unknown): boolean => isOclif(error) && error.code === undefined

/** The code of `this.exit(n)`, which is thrown; undefined for every other error. */
export const exitRequest = (error: unknown): number | undefined =>
  isOclif(error) && error.code === 'EEXIT' ? Number(error.oclif.exit ?? 0) : undefined

/** The one of `candidates` that was probably meant: its beginning, or two letters swapped or mistaken, one in a short word. */
function didYouMean(written: string, candidates: readonly string[]): string | undefined {
  if (candidates.length === 0) return undefined
  const best = closest(written, [...candidates])
  const mistakes = best.length < 4 ? 1 : Math.max(2, Math.floor(best.length / 3))
  return distance(written, best) <= mistakes || best.startsWith(written) ? best : undefined
}

/**
 * An error of oclif's parser as `usage` (exit 2), one clean line with a suggestion; BakeErrors that a flag's own parse threw get their
 * message back; everything else comes back as it is.
 * @param command as typed, `image`; '' when none was found.
 * @param flags names of the command's flags, without dashes.
 */
export function usageError(error: unknown, command: string, flags: readonly string[]): unknown {
  if (error instanceof BakeError) {
    error.message = withoutFrame(error.message)
    return error
  }
  if (!isOclif(error)) return error
  return refused('usage', usageMessage(error, flags), { next: `see \`bake ${command}${command === '' ? '' : ' '}--help\`` })
}

/**
 * A command line for which oclif found no command, as `unknown_command` or `usage` (exit 2). oclif joins words to a command's name as long as they are
 * no flags, so a surplus argument of a command that takes none also ends here.
 */
export function unknownCommand(argv: readonly string[], commands: readonly string[]): BakeError {
  const [written = '', ...more] = argv
  if (written.startsWith('-')) return refused('usage', unknownFlag(written, ['help', 'version']), { next: 'see `bake --help`' })
  if (commands.includes(written)) {
    const words = more.filter((word) => !word.startsWith('-'))
    return refused('usage', unexpected(words), { next: `see \`bake ${written} --help\`` })
  }
  const meant = didYouMean(written, commands)
  return refused(
    'unknown_command',
    `there is no command \`${written}\`${meant === undefined ? '' : `; did you mean \`${meant}\`?`}`,
    {
      next: meant === undefined ? 'see `bake --help`' : `try \`bake ${meant}\`, or see \`bake --help\``,
    },
  )
}

const unexpected = (words: readonly string[]): string => `unexpected argument${words.length === 1 ? '' : 's'} ${words.join(', ')}`

function usageMessage(error: OclifError, flags: readonly string[]): string {
  if (error.flags !== undefined) return error.flags.map((flag) => unknownFlag(flag, flags)).join('; ')
  const names = (error.args ?? []).map((arg) =>
    typeof arg === 'object' && arg !== null && 'name' in arg ? String(arg.name).toUpperCase() : String(arg),
  )
  if (names.length > 0) {
    return /^Missing/.test(error.message)
      ? `missing argument${names.length > 1 ? 's' : ''} ${names.join(', ')}`
      : unexpected(names)
  }
  const message = oneLine(withoutFrame(messageOf(error)))
  // It says so once for each of the two, with their values.
  const both = /^--([\w-]+)=.* cannot also be provided when using --([\w-]+)/.exec(message)
  if (both !== null) return `--${both[1]} and --${both[2]} can't be given together`
  const choice = /^Expected (?:(--[\w-]+)=)?(.*) to be one of: (.*)$/s.exec(message)
  if (choice === null) return message.charAt(0).toLowerCase() + message.slice(1)
  const [, flag = 'this argument', value = '', options = ''] = choice
  const meant = didYouMean(value, options.split(', '))
  return `${flag} can't be \`${value}\`: it is one of ${options}${meant === undefined ? '' : `; did you mean \`${meant}\`?`}`
}

function unknownFlag(written: string, flags: readonly string[]): string {
  const name = written.replace(/^-+/, '').replace(/=.*$/s, '')
  const meant = didYouMean(name, flags)
  return `unknown flag ${written.startsWith('--') ? '--' : '-'}${name}${meant === undefined ? '' : `; did you mean --${meant}?`}`
}

/** oclif puts "Parsing --flag", "The following error occurred:" and "See more help" around a message. */
const withoutFrame = (message: string): string =>
  stripVTControlCharacters(message)
    .replace(/\nSee more help with --help/g, '')
    .replace(/^Parsing (--[\w-]+) \n\t/, '$1: ')
    .replace(/^The following errors? occurred:\s*/, '')
    .trim()

/** oclif's own messages go over several lines. */
const oneLine = (message: string): string => message.replace(/\s*\n\s*/g, '; ')
