import type { LoadOptions } from '@oclif/core/interfaces'
import { errnoOf, messageOf, unavailable } from '../errors.ts'

/**
 * Runs one command line and ends the process with its exit code. What commands don't report themselves is reported here: unknown commands,
 * modules that don't load, errors outside any promise.
 * @param root absolute path of the package, where package.json and oclif.manifest.json are; or oclif's own options.
 */
export async function main(root: NonNullable<LoadOptions>, argv = process.argv.slice(2)): Promise<never> {
  surviveClosedPipes()
  process.on('uncaughtException', (error) => void endWith(error, root, argv))
  process.on('unhandledRejection', (error) => void endWith(error, root, argv))
  // Node would end with 13 and not a word: something waits for what nothing will do any more.
  process.on('beforeExit', () => void endWith(new Error('the command waits for something that never comes'), root, argv))
  const [{ run }, { settings }] = await Promise.all([import('@oclif/core/run'), import('@oclif/core/settings')])
  // Else NODE_ENV=test or development makes oclif look for src/*.ts and a loader for them.
  settings.enableAutoTranspile = false
  try {
    await run(argv[0] === 'help' ? [...argv.slice(1), '--help'] : argv, root)
  } catch (error) {
    await endWith(error, root, argv)
  }
  return exit()
}

/**
 * A reader of stdout that went away (`| head`) has all that it wanted: end quietly. Without stderr the work goes on, only untold, so that
 * the exit code stays true.
 */
function surviveClosedPipes(): void {
  process.stdout.on('error', (error) => {
    if (errnoOf(error) === 'EPIPE') process.exit()
    void endWith(unavailable('stdout_unwritable', `the result can't be written: ${messageOf(error)}`), undefined, [])
  })
  process.stderr.on('error', () => {})
}

let ending = false

/** Reports what no command caught. The first such error counts: later ones are its consequences. */
async function endWith(error: unknown, root: LoadOptions, argv: string[]): Promise<void> {
  if (ending) return
  ending = true
  const [{ exitRequest, isUnfound, unknownCommand }, { formatReport, reportOf }, { hasColours, palette }] = await Promise.all([
    import('./usage.ts'),
    import('./report.ts'),
    import('./style.ts'),
  ])
  process.exitCode = exitRequest(error)
  if (process.exitCode !== undefined) return exit()
  // A command reports its own errors (base.ts): what oclif throws past it is that there is no such command.
  const report = reportOf(
    isUnfound(error)
      ? unknownCommand(
          argv.filter((word) => word !== 'help'),
          await commandNames(root),
        )
      : error,
  )
  process.exitCode = report.exit
  if (argv.includes('--json')) process.stdout.write(`${JSON.stringify({ version: 1, error: report }, null, 2)}\n`)
  else process.stderr.write(`${formatReport(report, palette(hasColours(process.stderr)))}\n`)
  return exit()
}

async function commandNames(root: LoadOptions): Promise<string[]> {
  const { Config } = await import('@oclif/core/config')
  const config = await Config.load(root)
  return config.commands.filter((command) => !command.hidden).map((command) => command.id)
}

/** Ends at once, whatever connection is still kept alive, but not before both streams took everything. */
async function exit(): Promise<never> {
  await Promise.all([process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write('', resolve))))
  process.exit()
}
