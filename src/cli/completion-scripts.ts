import type { CommandWords, FlagWords, SHELLS } from './completion.ts'

const long = (flag: FlagWords): string[] => [`--${flag.name}`, ...(flag.char === undefined ? [] : [`-${flag.char}`])]

/** `COMP_WORDBREAKS` splits `--flag=value` into three words: the middle one is stepped over. Values that nobody can list fall back to file names. */
function bash(commands: readonly CommandWords[]): string {
  const values = commands.flatMap((command) =>
    command.flags
      .filter((flag) => flag.takesValue)
      .map(
        (flag) =>
          `    ${long(flag)
            .map((name) => `'${command.name} ${name}'`)
            .join('|')}) words='${flag.values.join(' ')}' ;;`,
      ),
  )
  const words = commands.map(
    (command) => `      '${command.name}') words='${[...command.argument, ...command.flags.flatMap(long)].join(' ')}' ;;`,
  )
  return `# bash completion of bake; made by \`bake completion bash\`
_bake() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} words=''
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${commands.map((command) => command.name).join(' ')} --help --version' -- "$cur"))
    return
  fi
  if [ "$cur" = '=' ]; then cur=''; elif [ "$prev" = '=' ]; then prev=\${COMP_WORDS[COMP_CWORD-2]}; fi
  case "\${COMP_WORDS[1]} $prev" in
${values.join('\n')}
    *) case "\${COMP_WORDS[1]}" in
${words.join('\n')}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _bake bake
`
}

function zsh(commands: readonly CommandWords[]): string {
  const spec = (flag: FlagWords): string[] => {
    const value = flag.takesValue ? `:${flag.name}:${flag.values.length > 0 ? `(${flag.values.join(' ')})` : '_default'}` : ''
    const one = (name: string) =>
      `'${flag.multiple ? '*' : ''}${name}${flag.takesValue && name.startsWith('--') ? '=' : ''}[${flag.summary}]${value}'`
    return long(flag).map(one)
  }
  const cases = commands.map((command) => {
    const argument = command.argument.length > 0 ? [`'1:argument:(${command.argument.join(' ')})'`] : ["'*::argument:_default'"]
    return `    '${command.name}') _arguments -s ${[...command.flags.flatMap(spec), ...argument].join(' ')} ;;`
  })
  return `#compdef bake
# zsh completion of bake; made by \`bake completion zsh\`
_bake() {
  local -a commands
  commands=(
${commands.map((command) => `    '${command.name}:${command.summary}'`).join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case "$words[1]" in
${cases.join('\n')}
  esac
}
if [ "$funcstack[1]" = '_bake' ]; then _bake "$@"; else compdef _bake bake; fi
`
}

function fish(commands: readonly CommandWords[]): string {
  const flagLine = (command: CommandWords, flag: FlagWords) =>
    [
      `complete -c bake -n '__fish_seen_subcommand_from ${command.name}' -l ${flag.name}`,
      flag.char === undefined ? '' : ` -s ${flag.char}`,
      flag.takesValue ? (flag.values.length > 0 ? ` -x -a '${flag.values.join(' ')}'` : ' -r') : '',
      ` -d '${flag.summary}'`,
    ].join('')
  const lines = commands.flatMap((command) => [
    `complete -c bake -f -n __fish_use_subcommand -a '${command.name}' -d '${command.summary}'`,
    ...(command.argument.length === 0
      ? []
      : [`complete -c bake -f -n '__fish_seen_subcommand_from ${command.name}' -a '${command.argument.join(' ')}'`]),
    ...command.flags.map((flag) => flagLine(command, flag)),
  ])
  return `# fish completion of bake; made by \`bake completion fish\`\n${lines.join('\n')}\n`
}

/** The static completion script for a shell. */
export const completionScript = (shell: (typeof SHELLS)[number], commands: readonly CommandWords[]): string =>
  ({ bash, zsh, fish })[shell](commands)
