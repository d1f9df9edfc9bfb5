import { z } from 'zod'
import { definition } from './definition.ts'
import type { SourceDocument } from './document.ts'
import { knownKeys, schemasAt } from './schema-walk.ts'
import { nearest, suggest, suggestKey, unitOf } from './suggest.ts'
import type { ConfigProblem } from './types.ts'

type Issue = z.core.$ZodIssue
type Path = readonly PropertyKey[]

/** Turns what the definition refuses into problems with lines, plain words and suggestions. */
export const problemsOf = (issues: Issue[], document: SourceDocument): ConfigProblem[] =>
  issues.flatMap((issue) => problemsAt(issue, [], document))

function problemsAt(issue: Issue, above: Path, document: SourceDocument): ConfigProblem[] {
  const path = [...above, ...issue.path]
  const value = valueAt(document.value, path)
  const problem = (at: Path, message: string, suggestion?: string): ConfigProblem => ({
    line: document.lineOf(at),
    path: at.join('.'),
    message,
    ...(suggestion === undefined ? {} : { suggestion }),
  })
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = knownKeys(definition, path, Object.keys(value as object))
      return issue.keys.map((key) => {
        const meant = suggestKey(key, known)
        return problem(
          [...path, key],
          meant === undefined ? `unknown key; known here: ${known.join(', ')}` : 'unknown key',
          meant,
        )
      })
    }
    case 'invalid_union': {
      const branch = likeliest(issue.errors)
      if (branch !== undefined) return branch.flatMap((inner) => problemsAt(inner, path, document))
      const expected = [
        ...new Set(issue.errors.flat().flatMap((inner) => (inner.code === 'invalid_type' ? [words(inner.expected)] : []))),
      ]
      return [problem(path, mustBe(path, expected.join(' or '), value), suggest(path, value, expected))]
    }
    case 'invalid_key': {
      // zod passes over the value of a key that it refuses; its problems are told all the same.
      const inner = schemasAt(definition, path).flatMap(
        (schema) => z.safeParse(schema, value, { jitless: true }).error?.issues ?? [],
      )
      return [
        problem(path, `the name ${issue.issues[0]?.message ?? 'is not valid'}`, suggest([...path, 'name'], path.at(-1), [])),
        ...inner.flatMap((found) => problemsAt(found, path, document)),
      ]
    }
    case 'invalid_type':
      return [problem(path, mustBe(path, words(issue.expected), value), suggest(path, value, [words(issue.expected)]))]
    case 'invalid_value': {
      const values = issue.values.map(String)
      const what = values.length === 1 ? values[0]! : `one of ${values.join(', ')}`
      return [problem(path, mustBe(path, what, value), nearest(String(value), values))]
    }
    case 'too_small':
      return [
        problem(
          path,
          issue.origin === 'number' || issue.origin === 'int'
            ? mustBe(path, `at least ${issue.minimum}`, value)
            : 'must not be empty',
        ),
      ]
    case 'too_big':
      return [problem(path, mustBe(path, `at most ${issue.maximum}${issue.origin === 'string' ? ' characters' : ''}`, value))]
    default:
      return [
        problem(
          path,
          `${issue.message}${typeof value === 'string' && !holdsSecret(path) ? `: ${shown(value)}` : ''}`,
          suggest(path, value, []),
        ),
      ]
  }
}

/** Of a union's branches, the one that the value has the kind of; among several the one with the fewest complaints. */
function likeliest(branches: Issue[][]): Issue[] | undefined {
  const complaints = (branch: Issue[]) =>
    branch.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length : 1), 0)
  return branches
    .filter((branch) => !branch.some(({ code, path }) => code === 'invalid_type' && path.length === 0))
    .sort((a, b) => complaints(a) - complaints(b))[0]
}

const WORDS: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a table of settings',
  record: 'a table of names',
  null: 'nothing',
}
const words = (type: string): string => WORDS[type] ?? type

function mustBe(path: Path, what: string, value: unknown): string {
  if (value === undefined) return 'is missing'
  const got = value === null ? 'nothing' : Array.isArray(value) ? 'a list' : typeof value === 'object' ? 'a table' : shown(value)
  const variables = value === null && path.some((part) => part === 'args' || part === 'env')
  const why = variables
    ? '; a build or a boot elsewhere has nothing of your environment, so write the value, or leave the line out'
    : ''
  return `must be ${unitOf(path) ?? what}, not ${got}${why}`
}

/** A value for a message, shortened, without the user and password that a URL may hold. */
const shown = (value: unknown): string => {
  const text = typeof value === 'string' ? value.replace(/(\/\/)[^/@]*@/, '$1…@') : value
  const json = JSON.stringify(text)
  return json.length > 120 ? `${json.slice(0, 117)}…"` : json
}

/** Whoever knows the URL of a webhook can use it. */
const holdsSecret = (path: Path): boolean => path[0] === 'notify' && ['slack', 'webhook'].includes(String(path.at(-1)))

const valueAt = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? (at as Record<PropertyKey, unknown>)[key] : undefined),
    value,
  )
