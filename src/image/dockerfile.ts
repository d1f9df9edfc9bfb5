import { refused } from '../errors.ts'
import type { Pin } from '../jobs/job.ts'
import { closest } from '../nearest.ts'
import { formatPlatform, machinePlatform, parsePlatform } from '../platform-name.ts'
import { contextName } from '../reference.ts'
import { type ParsedDockerfile, parseDockerfile, type Span } from './dockerfile-lines.ts'
import { neededStages, platformText, readStages, type Stage } from './dockerfile-stages.ts'
import { type AddedUrl, addedUrls } from './dockerfile-urls.ts'

export interface AnalyseOptions {
  /** Build arguments. */
  args?: Readonly<Record<string, string>> | undefined
  /** The stage to build; the last one unless told. */
  target?: string | undefined
  /** Platforms to build for; none: the engine's own. */
  platforms?: readonly string[] | undefined
  /** Names of named contexts: these are no images to pin. */
  contexts?: readonly string[] | undefined
  /** The engine's platform; this machine's unless told. */
  buildPlatform?: string | undefined
}

/** An image that the build takes from outside the file. */
export interface ExternalImage {
  use: 'from' | 'copy' | 'mount' | 'syntax'
  /** As written, arguments expanded. */
  reference: string
  /** 1-based. */
  line: number
  /** Platforms that it must offer, sorted; none for a frontend, which runs on the engine's own. */
  platforms: string[]
  spans: Span[]
}

export interface NeededStage {
  /** Its name, or its number. */
  name: string
  line: number
  /** Platforms that its commands run on, sorted. */
  platforms: string[]
  /** It has a RUN. */
  runs: boolean
}

export interface DockerfileAnalysis {
  /** By place in the file; several with one place differ in reference (one for each platform) and carry a digest each. */
  externals: ExternalImage[]
  /** The stages that the target needs, in the file's order. */
  stages: NeededStage[]
  /** ADDs of URLs in those stages. */
  urls: AddedUrl[]
  options: AnalyseOptions
}

/**
 * What a Dockerfile needs from outside, as BuildKit will read it. Syntax errors are left to BuildKit, which reports them better.
 * Throws bad_dockerfile (no FROM at all), unknown_target, platform_reference (one FROM that is a different image for each platform): exit 2.
 */
export function analyse(text: string, options: AnalyseOptions = {}): DockerfileAnalysis {
  const file = parseDockerfile(text)
  if (!file.instructions.some(({ keyword }) => keyword === 'from'))
    throw refused('bad_dockerfile', 'the Dockerfile has no FROM', {
      next: 'start it with FROM <image>; FROM scratch is an empty one',
    })
  const args = options.args ?? {}
  const buildPlatform = parsePlatform(options.buildPlatform ?? machinePlatform())
  const targets = options.platforms?.length ? options.platforms.map(parsePlatform) : [buildPlatform]
  const contexts = new Set((options.contexts ?? []).map((name) => contextName(name) ?? name))
  const externals = new Map<string, ExternalImage>()
  const stages = new Map<number, NeededStage>()
  const urls = new Map<string, AddedUrl>()
  for (const targetPlatform of targets) {
    const graph = readStages(file, { args, contexts, buildPlatform, targetPlatform, target: options.target })
    const needed = neededStages(targetStage(graph.stages, options.target))
    for (const stage of needed) {
      const platform = platformText(stage)
      addStage(stages, stage, platform)
      for (const use of stage.uses) {
        const key = `${use.spans[0]?.start} ${use.reference}`
        const known = externals.get(key) ?? { ...use, platforms: [] }
        // COPY --from and mounts take the image for the platform that is built, whatever the stage runs on.
        known.platforms = added(known.platforms, use.use === 'from' ? platform : formatPlatform(targetPlatform))
        externals.set(key, known)
      }
    }
    for (const added of addedUrls(needed, graph.globals, args, file.escape)) urls.set(`${added.line} ${added.url}`, added)
  }
  const syntax = frontend(file, args)
  const list = [...(syntax ? [syntax] : []), ...externals.values()].sort((a, b) => place(a) - place(b))
  refusePlatformReferences(list)
  return { externals: list, stages: [...stages.values()].sort((a, b) => a.line - b.line), urls: [...urls.values()], options }
}

const place = (external: ExternalImage): number => external.spans[0]?.start ?? 0
const added = (list: string[], one: string): string[] => [...new Set([...list, one])].sort()

function addStage(stages: Map<number, NeededStage>, stage: Stage, platform: string): void {
  const known = stages.get(stage.index)
  const runs = stage.commands.some(({ keyword }) => keyword === 'run')
  stages.set(stage.index, {
    name: stage.name ?? String(stage.index),
    line: stage.line,
    platforms: added(known?.platforms ?? [], platform),
    runs,
  })
}

function frontend(file: ParsedDockerfile, args: Readonly<Record<string, string>>): ExternalImage | undefined {
  if (args.BUILDKIT_SYNTAX)
    throw refused('unsupported_argument', 'the build argument BUILDKIT_SYNTAX replaces the frontend, and nothing would pin it', {
      next: `write "# syntax=${args.BUILDKIT_SYNTAX}" as the Dockerfile's first line instead`,
    })
  const { syntax } = file
  return syntax && { use: 'syntax', reference: syntax.value, line: syntax.line, platforms: [], spans: [syntax.span] }
}

function targetStage(stages: Stage[], target: string | undefined): Stage {
  if (target === undefined) return stages.at(-1)!
  const found = stages.findLast(({ name }) => name === target.toLowerCase())
  if (found) return found
  const names = stages.flatMap(({ name }) => name ?? [])
  const meant = closest(target.toLowerCase(), names)
  throw refused('unknown_target', `the Dockerfile has no stage "${target}"`, {
    next: meant
      ? `did you mean "${meant}"?`
      : names.length > 0
        ? `its stages: ${names.join(', ')}`
        : 'none of its stages has a name (FROM … AS name)',
    ids: { target },
  })
}

/** One place can hold one reference with one digest; different images for different platforms must be written out. */
function refusePlatformReferences(externals: ExternalImage[]): void {
  const clash = externals.find(
    (one, i) => i > 0 && place(externals[i - 1]!) === place(one) && !bothPinned(externals[i - 1]!, one),
  )
  if (!clash) return
  const all = externals.filter((one) => place(one) === place(clash)).map(({ reference }) => reference)
  throw refused('platform_reference', `line ${clash.line} names a different image for each platform: ${all.join(', ')}`, {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: a Dockerfile's variable
    next: 'give each image a stage of its own (FROM <image> AS base-amd64, …) and start from FROM base-${TARGETARCH}',
  })
}

const bothPinned = (a: ExternalImage, b: ExternalImage): boolean => a.reference.includes('@') && b.reference.includes('@')

/** The tag under which a worker names an image that only its engine has. */
export const localPinReference = ({ digest }: Pin): string => `bake-pin:${digest.replace('sha256:', '')}`

/** What replaces a reference: itself when it has a digest, `name:tag@digest`, or for a local pin the name of localPinReference. */
function pinnedReference(reference: string, pin: Pin): string {
  if (pin.local) return localPinReference(pin)
  const hasTag = reference.lastIndexOf(':') > reference.lastIndexOf('/')
  return `${reference}${hasTag ? '' : ':latest'}@${pin.digest}`
}

/**
 * The same text with every image reference that the build needs replaced by its pinned form, and nothing else: lines keep their numbers and ends.
 * (A `--build-context <name>=docker-image://…` would also replace a *stage* of that name: `FROM alpine AS alpine`.)
 * A frontend without a pin means the engine's own: its `# syntax=` line is made a plain comment. Any other reference without a pin throws
 * pin_missing; one that can't be replaced where it stands, unpinnable. The result is analysed again, so that nothing unpinned gets through.
 */
export function pinDockerfile(text: string, analysis: DockerfileAnalysis, pins: readonly Pin[]): string {
  const byReference = new Map(pins.map((pin) => [pin.reference, pin]))
  const edits: { span: Span; by: string }[] = []
  const expected: string[] = []
  let builtIn = false
  for (const { use, reference, line, spans } of analysis.externals) {
    const pin = byReference.get(reference)
    if (reference.includes('@')) expected.push(reference)
    else if (pin) {
      const by = pinnedReference(reference, pin)
      expected.push(by)
      // A name broken over two lines: all of it goes where it starts, so that no line is lost.
      edits.push(...spans.map((span, i) => ({ span, by: i === 0 ? by : '' })))
    } else if (use === 'syntax') builtIn = true
    else
      throw refused('pin_missing', `line ${line}: no digest is known for ${reference}`, {
        next: 'ask for the image again: bake image --rebuild',
        ids: { reference },
      })
  }
  let out = text
  for (const { span, by } of edits.sort((a, b) => b.span.start - a.span.start))
    out = out.slice(0, span.start) + by + out.slice(span.end)
  if (builtIn) out = withoutSyntax(out)
  const again = analyse(out, analysis.options).externals.map(({ reference }) => reference)
  const at = expected.findIndex((reference, i) => again[i] !== reference)
  if (at >= 0 || again.length !== expected.length) {
    const { line, reference } = analysis.externals[at + (builtIn ? 1 : 0)] ?? analysis.externals[0]!
    throw refused('unpinnable', `line ${line}: ${reference} is written in a way that can't be pinned`, {
      next: 'write the image name plainly, without quotes or variables inside it',
    })
  }
  return out
}

/** The first line that isn't a directive ends the directives, so `# escape=` below moves up into the place that gets free. */
function withoutSyntax(text: string): string {
  const { syntax, escapeDirective } = parseDockerfile(text)
  if (!syntax) return text
  const lines = text.split('\n')
  const mark = syntax.line === 1 && text.startsWith('\ufeff') ? '\ufeff' : ''
  const end = (line: number) => (lines[line - 1]!.endsWith('\r') ? '\r' : '')
  const comment = `# frontend: the engine's own`
  const move = escapeDirective !== undefined && escapeDirective.line > syntax.line
  if (move) lines[escapeDirective.line - 1] = comment + end(escapeDirective.line)
  lines[syntax.line - 1] = `${mark}${move ? `# escape=${escapeDirective.value}` : comment}${end(syntax.line)}`
  return lines.join('\n')
}
