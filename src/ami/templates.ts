import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type handlebars from 'handlebars'
import { type BakeError, messageOf, refused } from '../errors.ts'
import { closest } from '../nearest.ts'
import { packageFile } from '../package-root.ts'
import { exec, hcl, packer, sh, unit } from './quote.ts'

type Environment = ReturnType<typeof handlebars.create>
type Options = handlebars.HelperOptions & { name: string; loc?: { start: { line: number } } }

export interface Templates {
  /** The text that a template (`boot/health.sh`, without .hbs) makes of `data`. Throws template_invalid (exit 2) with file and line. */
  render(name: string, data: object): string
}

/** A template's error, with the file and the line that it is in. */
class TemplateError extends Error {}

/**
 * The package's templates; those of `own` (by path, with .hbs) take the places of the package's. `ownDir` is what messages call the directory that they are
 * from. Each is a partial of the others as well. Throws template_unknown (exit 2) for one that takes no place.
 */
export async function openTemplates(own: Map<string, string>, ownDir: string): Promise<Templates> {
  const { default: handlebars } = await import('handlebars')
  const dir = packageFile('templates')
  const files = globSync('**/*.hbs', { cwd: dir }).sort()
  const unknown = [...own.keys()].find((file) => !files.includes(file))
  if (unknown !== undefined) throw noSuchTemplate(unknown, ownDir, files)
  const environment = withHelpers(handlebars.create())
  for (const file of files) {
    const text = own.get(file)
    const [source, shown] =
      text === undefined ? [readFileSync(join(dir, file), 'utf8'), `templates/${file}`] : [text, `${ownDir}/${file}`]
    // Names that the data doesn't have are mistakes, and nothing here is HTML.
    const compiled = environment.compile(source, { noEscape: true, strict: true })
    environment.registerPartial(file.slice(0, -'.hbs'.length), (data: object, options?: object) => {
      try {
        return compiled(data, options)
      } catch (error) {
        throw error instanceof TemplateError ? error : new TemplateError(placed(error, shown), { cause: error })
      }
    })
  }
  return {
    render(name, data) {
      try {
        return environment.partials[name](data)
      } catch (error) {
        // Without templates of the user's it is a mistake of ours.
        if (!(error instanceof TemplateError) || own.size === 0) throw error
        throw refused('template_invalid', error.message, {
          next: 'compare it with the template of the same path in this package; docs/machine-images.md says what templates know',
          cause: error,
        })
      }
    },
  }
}

/** `dir/boot/net.sh.hbs:12: "nmae" not defined`. */
function placed(error: unknown, file: string): string {
  const message = messageOf(error)
  const parse = /^Parse error on line (\d+):\n(.*)\n/.exec(message)
  if (parse) return `${file}:${parse[1]}: braces that don't fit each other: ${parse[2]!.trim()}`
  const line = (error as { lineNumber?: number }).lineNumber
  const said = message.replace(/ - \d+:\d+$/, '').replace(/^"(.*)" not defined in \[object Object\]$/, 'there is no "$1" here')
  return `${file}${line === undefined ? '' : `:${line}`}: ${said}`
}

function noSuchTemplate(file: string, ownDir: string, files: string[]): BakeError {
  const stem = file.replace(/\.hbs$/, '.')
  const meant = closest(file, files) ?? files.find((one) => one.startsWith(stem) || one.endsWith(`/${file}`))
  return refused(
    'template_unknown',
    `${ownDir}/${file} takes the place of no template${meant ? ` (did you mean ${meant}?)` : ''}`,
    {
      next: `templates are ${files.join(', ')}`,
      ids: { path: `${ownDir}/${file}` },
    },
  )
}

/** Helpers that quote, and Handlebars' own blocks, all of which take no name that isn't there. */
function withHelpers(environment: Environment): Environment {
  const { if: when, unless, each, with: inside } = environment.helpers as Record<string, handlebars.HelperDelegate>
  const known = (helper: handlebars.HelperDelegate) =>
    function (this: unknown, value: unknown, options: Options) {
      const { loc, name } = options
      try {
        if (value === undefined) throw new Error(`{{${name}}} is given a name that isn't there`)
        return helper.call(this, value, options)
      } catch (error) {
        // Handlebars names the line of its own errors only.
        throw error instanceof TemplateError || loc === undefined || (error as { lineNumber?: number }).lineNumber !== undefined
          ? error
          : Object.assign(new Error(messageOf(error), { cause: error }), { lineNumber: loc.start.line })
      }
    }
  environment.registerHelper({ if: known(when!), unless: known(unless!), each: known(each!), with: known(inside!) })
  for (const [name, quote] of Object.entries({ sh, hcl, packer, unit, exec }))
    environment.registerHelper(
      name,
      known((value) => quote(value)),
    )
  return environment
}
