import { Command } from '@oclif/core/command'
import { boolean, option } from '@oclif/core/flags'
import type { InferredArgs, InferredFlags } from '@oclif/core/interfaces'
import type { Emit } from '../events.ts'
import { openRenderer, type Renderer } from './render.ts'
import { type ErrorReport, formatReport, reportOf } from './report.ts'
import { installSignals, type Signals } from './signals.ts'
import { hasColours, type Palette, palette } from './style.ts'

/** For commands that show a story: `static override flags = { ...storyFlags, … }`. Without them the story is plain lines. */
export const storyFlags = {
  progress: option({
    options: ['auto', 'plain'] as const,
    default: 'auto',
    env: 'BAKE_PROGRESS',
    description: 'live view on a terminal (auto), or always plain lines',
    helpGroup: 'OUTPUT',
  })(),
  quiet: boolean({
    char: 'q',
    env: 'BAKE_QUIET',
    description: 'no steps and no log lines, only results and failures',
    helpGroup: 'OUTPUT',
  }),
}

export type FlagsOf<T extends typeof Command> = InferredFlags<T['flags']> & { json: boolean }
export type ArgsOf<T extends typeof Command> = InferredArgs<T['args']>

/**
 * The base of every command: `this.flags` and `this.args` are parsed before `run()`; stdout carries the result (`this.log`, or with --json
 * the object that `run()` returns, as the one document), stderr the story (`this.emit`). An error thrown by `run()` decides the exit code
 * (src/errors.ts). Give arguments `ignoreStdin: true`, or oclif fills a missing one from a pipe.
 */
export abstract class BaseCommand<T extends typeof Command> extends Command {
  static override enableJsonFlag = true
  static override baseFlags = {
    json: boolean({ description: 'one JSON document on stdout, the story as JSON lines on stderr', helpGroup: 'OUTPUT' }),
  }

  protected flags!: FlagsOf<T>
  protected args!: ArgsOf<T>
  /** What the --json document holds beside `error` when the command fails: fill it before throwing. */
  protected partial: object = {}
  private renderer: Renderer | undefined
  private installed: Signals | undefined

  override async init(): Promise<void> {
    await super.init()
    const { flags, args } = await this.parse({
      flags: this.ctor.flags,
      baseFlags: this.ctor.baseFlags,
      args: this.ctor.args,
      strict: this.ctor.strict,
      enableJsonFlag: this.ctor.enableJsonFlag,
    })
    this.flags = flags as FlagsOf<T>
    this.args = args as ArgsOf<T>
    const { progress = 'plain', quiet = false } = flags as { progress?: 'auto' | 'plain'; quiet?: boolean }
    this.renderer = await openRenderer({ json: this.jsonEnabled(), quiet, progress, stream: process.stderr })
  }

  /** Tells the story on stderr: the live view, plain lines, or JSON lines with --json. */
  protected readonly emit: Emit = (event) => this.renderer?.emit(event)

  /** Resolves when stderr's reader has caught up with the story: await it between portions of a log. */
  protected readonly settled = async (): Promise<void> => this.renderer?.settled()

  /** Ends the live view: the terminal is another program's from here on. */
  protected readonly giveTerminal = (): void => this.renderer?.close()

  /** SIGINT and SIGTERM, taken over from the first use on: a command that never asks dies of them as usual. */
  protected get signals(): Signals {
    this.installed ??= installSignals()
    return this.installed
  }

  /** Aborted by the first SIGINT or SIGTERM: drain or detach, then throw `interrupted(…)`. The second one is `this.signals.abort`. */
  protected get interrupt(): AbortSignal {
    return this.signals.drain
  }

  /** Colours for what goes to stdout. */
  protected get paint(): Palette {
    return palette(hasColours(process.stdout))
  }

  /** What a command's part in src/cli needs to show a result and to ask. */
  protected get terminal() {
    const { paint, giveTerminal } = this
    return { paint, giveTerminal, json: this.jsonEnabled(), log: (line: string) => this.log(line) }
  }

  /** One line (or several) of the result on stdout; nothing with --json. Ends the live view. */
  override log(message = ''): void {
    if (this.jsonEnabled()) return
    this.renderer?.close()
    process.stdout.write(`${message}\n`)
  }

  protected override logJson(document: unknown): void {
    process.stdout.write(`${JSON.stringify(document, null, 2)}\n`)
  }

  protected override toSuccessJson(result: unknown): unknown {
    return { version: 1, ...(result as object) }
  }

  protected override toErrorJson(report: ErrorReport): unknown {
    return { version: 1, ...this.partial, error: report }
  }

  /** Prints what went wrong and sets the exit code. Never throws, so that nothing of oclif's own printing runs. */
  protected override async catch(error: Error): Promise<void> {
    this.parsed = true
    this.renderer?.close()
    const { exitRequest, usageError } = await import('./usage.ts')
    const requested = exitRequest(error)
    if (requested !== undefined) {
      process.exitCode = requested
      return
    }
    const stopped = error.name === 'AbortError' && this.installed?.drain.aborted ? this.installed.drain.reason : error
    const report = reportOf(
      usageError(stopped, (this.id ?? '').replaceAll(':', ' '), [...Object.keys(this.ctor.flags ?? {}), 'json', 'help']),
    )
    process.exitCode = report.exit
    if (this.jsonEnabled()) this.logJson(this.toErrorJson(report))
    else this.printFailure(report)
  }

  /** On stderr, for people. */
  protected printFailure(report: ErrorReport): void {
    process.stderr.write(`${formatReport(report, palette(hasColours(process.stderr)))}\n`)
  }

  protected override async finally(): Promise<void> {
    this.renderer?.close()
    this.installed?.dispose()
  }
}
