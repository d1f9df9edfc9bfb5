import { formatPlatform, type Platform, parsePlatform, platformArguments } from '../platform-name.ts'
import { contextName } from '../reference.ts'
import { mountSource, pairs, splitFlags } from './dockerfile-flags.ts'
import type { Instruction, ParsedDockerfile, Span } from './dockerfile-lines.ts'
import { expand } from './dockerfile-words.ts'

/** A name in FROM, `COPY --from` or `RUN --mount=from=` that stands for an image outside the file. */
export interface ImageUse {
  use: 'from' | 'copy' | 'mount'
  /** Arguments expanded. */
  reference: string
  spans: Span[]
  line: number
}

export interface Stage {
  /** Lower case; undefined when it has none. */
  name: string | undefined
  index: number
  line: number
  /** The platform its commands run on. */
  platform: Platform
  base: Stage | undefined
  commands: Instruction[]
  /** Stages that it copies from or mounts. */
  needs: Stage[]
  uses: ImageUse[]
}

export interface StageOptions {
  args: Readonly<Record<string, string>>
  /** Names of named contexts, in BuildKit's spelling (contextName). */
  contexts: ReadonlySet<string>
  buildPlatform: Platform
  targetPlatform: Platform
  target: string | undefined
}

interface Graph {
  stages: Stage[]
  globals: Map<string, string>
}

/** The stages of a file for one target platform. Source: toDispatchState in frontend/dockerfile/dockerfile2llb/convert.go of moby/buildkit. */
export function readStages(file: ParsedDockerfile, options: StageOptions): Graph {
  const groups = groupByFrom(file)
  const globals = globalArguments(file, options, groups.lastName)
  const byName = new Map<string, Stage>()
  const stages: Stage[] = []
  const isContext = (name: string) => name !== 'context' && options.contexts.has(contextName(name) ?? name)
  const isOutside = (name: string) => name !== 'scratch' && !isContext(name)
  for (const { from, commands, image, name, platformFlag } of groups.stages) {
    const reference = expand(image.text, globals, { escape: file.escape }) ?? ''
    const replaced = name !== undefined && isContext(name)
    // The stages before this one only: `FROM alpine AS alpine` starts from the image. Names are looked up as they are written.
    const base = replaced ? undefined : byName.get(reference)
    const platform = platformOf(platformFlag, globals, file.escape) ?? base?.platform ?? options.targetPlatform
    const stage: Stage = { name, index: stages.length, line: from.line, platform, base, commands, needs: [], uses: [] }
    if (!replaced && !base && reference !== '' && isOutside(reference))
      stage.uses.push({ use: 'from', reference, spans: image.spans, line: image.line })
    stages.push(stage)
    if (name !== undefined) byName.set(name, stage)
  }
  for (const stage of stages) {
    for (const use of stage.commands.flatMap((command) => usesOf(command, file.escape))) {
      const isIndex = use.use === 'copy' && /^[+-]?\d+$/.test(use.reference)
      const source = isIndex ? stages[Number(use.reference)] : byName.get(use.reference.toLowerCase())
      if (source) stage.needs.push(source)
      else if (!isIndex && isOutside(use.reference)) stage.uses.push(use)
    }
  }
  return { stages, globals }
}

/** The stages that building `target` needs, in the file's order. */
export function neededStages(target: Stage): Stage[] {
  const needed = new Set<Stage>()
  const visit = (stage: Stage) => {
    if (needed.has(stage)) return
    needed.add(stage)
    for (const next of stage.base ? [stage.base, ...stage.needs] : stage.needs) visit(next)
  }
  visit(target)
  return [...needed].sort((a, b) => a.index - b.index)
}

interface Group {
  from: Instruction
  image: { text: string; spans: Span[]; line: number }
  name: string | undefined
  platformFlag: string | undefined
  commands: Instruction[]
}

function groupByFrom(file: ParsedDockerfile): { stages: Group[]; lastName: string } {
  const stages: Group[] = []
  for (const instruction of file.instructions) {
    if (instruction.keyword !== 'from') {
      stages.at(-1)?.commands.push(instruction)
      continue
    }
    const { flags, args, argsAt } = splitFlags(instruction, file.escape)
    const words = args.split(/[\t\v\f\r ]+/)
    const text = words[0] ?? ''
    const name = words.length === 3 && words[1]!.toLowerCase() === 'as' ? words[2]!.toLowerCase() : undefined
    const platformFlag = flags.find((flag) => flag.name === 'platform')?.value
    const spans = instruction.spans(argsAt, argsAt + text.length)
    stages.push({ from: instruction, image: { text, spans, line: instruction.line }, name, platformFlag, commands: [] })
  }
  return { stages, lastName: stages.at(-1)?.name ?? '' }
}

/** Platform arguments and ARGs before the first FROM; a build argument replaces a default, whatever it is. */
function globalArguments(file: ParsedDockerfile, options: StageOptions, lastName: string): Map<string, string> {
  const stage = options.target ?? lastName
  const globals = platformArguments(options.targetPlatform, options.buildPlatform, stage === '' ? 'default' : stage)
  for (const name of globals.keys()) if (Object.hasOwn(options.args, name)) globals.set(name, options.args[name]!)
  for (const { keyword, rest } of file.instructions) {
    if (keyword === 'from') break
    if (keyword === 'arg') setArguments(globals, rest, file.escape, options.args)
  }
  return globals
}

/** Applies one ARG line to `values`. `inherited`: what a name without a default gets. */
export function setArguments(
  values: Map<string, string>,
  line: string,
  escapeToken: string,
  args: Readonly<Record<string, string>>,
  inherited?: ReadonlyMap<string, string>,
): void {
  for (const { name, value } of pairs('arg', line, escapeToken)) {
    const fallback = value === undefined ? inherited?.get(name) : expand(value, values, { escape: escapeToken })
    const chosen = Object.hasOwn(args, name) ? args[name] : fallback
    if (chosen !== undefined) values.set(name, chosen)
  }
}

function platformOf(flag: string | undefined, globals: ReadonlyMap<string, string>, escapeToken: string): Platform | undefined {
  const text = flag === undefined ? '' : (expand(flag, globals, { escape: escapeToken }) ?? '')
  try {
    // An architecture alone is Linux on it, an operating system alone the build machine's: BuildKit takes both.
    return text === '' ? undefined : parsePlatform(text.includes('/') ? text : `linux/${text}`)
  } catch {
    return undefined
  }
}

/** What one command copies from or mounts, stages and images alike. BuildKit expands no variables there. */
function usesOf(command: Instruction, escapeToken: string): ImageUse[] {
  if (command.keyword !== 'copy' && command.keyword !== 'run') return []
  const found: ImageUse[] = []
  for (const flag of splitFlags(command, escapeToken).flags) {
    if (flag.value === undefined) continue
    const mount = command.keyword === 'run' && flag.name === 'mount' ? mountSource(flag.value) : undefined
    const at = command.keyword === 'copy' && flag.name === 'from' ? { source: flag.value, at: 0 } : mount
    if (!at || at.source === '' || at.source.includes('$')) continue
    const use = command.keyword === 'copy' ? 'copy' : 'mount'
    const spans = flag.spans(at.at, at.at + at.source.length)
    found.push({ use, reference: at.source, spans, line: command.line })
  }
  return found
}

export const platformText = (stage: Stage): string => formatPlatform(stage.platform)
