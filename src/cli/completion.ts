/** What a completion script knows of one command. All of it is names of ours: no user text. */
export interface CommandWords {
  name: string
  summary: string
  flags: FlagWords[]
  /** Values of the first argument, when it is one of a few. */
  argument: readonly string[]
}

export interface FlagWords {
  /** Without dashes; `no-wait` for the negation of a boolean. */
  name: string
  char?: string | undefined
  summary: string
  takesValue: boolean
  values: readonly string[]
  multiple: boolean
}

/** The parts of oclif's command metadata that count here (Command.Loadable). */
interface Metadata {
  id: string
  hidden?: boolean
  summary?: string | undefined
  description?: string | undefined
  flags: Record<string, object>
  args: Record<string, object>
}

interface FlagMetadata {
  char?: string
  type: 'boolean' | 'option'
  summary?: string
  description?: string
  hidden?: boolean
  options?: readonly string[]
  multiple?: boolean
  allowNo?: boolean
}

/** oclif's metadata as words to complete; hidden commands and flags left out, sorted by name. */
export function commandWords(commands: readonly Metadata[]): CommandWords[] {
  return commands
    .filter((command) => !command.hidden)
    .map((command) => ({
      name: command.id.replaceAll(':', ' '),
      summary: firstLine(command.summary ?? command.description),
      flags: [...Object.entries(command.flags).flatMap(([name, flag]) => flagWords(name, flag as FlagMetadata)), HELP],
      argument: (Object.values(command.args)[0] as FlagMetadata | undefined)?.options ?? [],
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

const HELP: FlagWords = { name: 'help', summary: 'show help', takesValue: false, values: [], multiple: false }

function flagWords(name: string, flag: FlagMetadata): FlagWords[] {
  if (flag.hidden) return []
  const words: FlagWords = {
    name,
    char: flag.char,
    summary: firstLine(flag.summary ?? flag.description),
    takesValue: flag.type === 'option',
    values: flag.options ?? [],
    multiple: flag.multiple ?? false,
  }
  return flag.allowNo ? [words, { ...words, name: `no-${name}`, char: undefined, summary: `the opposite of --${name}` }] : [words]
}

/** One line without what any of the three shells would take for syntax inside single quotes or a zsh description. */
const firstLine = (text = ''): string =>
  text.split('\n')[0]!.replace(/'/g, '’').replace(/\[/g, '(').replace(/\]/g, ')').replace(/\\/g, '')

export const SHELLS = ['bash', 'zsh', 'fish'] as const
