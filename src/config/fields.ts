import { z } from 'zod'
import { NAME_PATTERN } from '../names.ts'
import { parsePort, pathFault, registryFault, repositoryFault } from './syntax.ts'

/** The kinds of values in bake.yaml. Each says what it must be, in words that follow "<path>: ". */

export const name = z.string().regex(NAME_PATTERN, 'must be lower-case letters, digits and single . _ - between them').max(128)

/** A text whose fault a function can name; `undefined` is no fault. */
const checked = (fault: (text: string) => string | undefined) =>
  z.string().superRefine((text, ctx) => {
    const message = fault(text)
    if (message !== undefined) ctx.addIssue({ code: 'custom', message })
  })

/** A path inside the repository, from bake.yaml or from the context. */
export const path = checked((text) => pathFault(text))

/** A named context: such a path, or an image. Other schemes would fetch what no key knows of. */
export const contextSource = checked((text) => {
  if (/^docker-image:\/\/[A-Za-z0-9][^\s]*$/.test(text)) return undefined
  if (/^[a-z-]+:(?!\/\/)/.test(text)) return 'must be a directory of the repository or docker-image://REFERENCE'
  const fault = pathFault(text)
  return fault && `${fault}; or docker-image://REFERENCE`
})

export const repository = checked(repositoryFault)
export const registry = checked(registryFault)

/** Units of time as in compose and Go; months and years have no fixed length and are left out. */
const DURATION_PATTERN = /^(?:[0-9]+(?:w|d|h|m|s))+$/
export const duration = z.string().regex(DURATION_PATTERN, 'must be a time with a unit, such as 60s, 15m, 12h or 7d')

/** Sizes as `docker run --memory` reads them: 1024 to the power, whatever the spelling. */
const SIZE_PATTERN = /^[0-9]+(?:\.[0-9]+)?(?:[kKmMgGtT](?:i?[bB])?|[bB])$/
export const size = z.string().regex(SIZE_PATTERN, 'must be a size with a unit, such as 512MB or 20GB')

/** Operating systems and processors of Go that images are made for; a variant is one of its processor. */
const PLATFORM_PATTERN =
  /^(?:linux|windows|freebsd|darwin)\/(?:amd64|arm64|arm|386|ppc64le|s390x|riscv64|mips64le|mips64|loong64)(?:\/v[0-9]+)?$/
export const platform = z.string().regex(PLATFORM_PATTERN, 'must be os/arch or os/arch/variant, such as linux/arm64')

/** Text, or a number or boolean that stands for its text. */
export const scalar = z.union([z.string(), z.number(), z.boolean()])

const variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be letters, digits and _, no digit first')

/** `KEY: value`, or a list of `KEY=value` as compose allows too. */
export const variables = z.union([
  z.record(variable, scalar),
  z.array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*=/, 'must be NAME=value; a worker knows nothing of your environment')),
])

export const texts = z.record(z.string().min(1), scalar)

/** An id that is a file name and, in capitals, part of an environment variable. */
export const id = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/, 'must be letters, digits and . _ -')

/** A list of words; or one text without quotes and shell characters, that is split at blanks. */
export const command = z.union([
  z.array(scalar).min(1),
  z
    .string()
    .regex(
      /^[^"'\\$`|&;<>()*?#~]*[^\s"'\\$`|&;<>()*?#~][^"'\\$`|&;<>()*?#~]*$/,
      'must be a list of words, because no shell reads it',
    ),
])

export const port = z.number().int().min(1).max(65535)
export const portMapping = checked((text) =>
  parsePort(text) === undefined
    ? 'must be "host:container" or "address:host:container", each one port from 1 to 65535, perhaps with /udp'
    : undefined,
)

/** An absolute path on the instance. */
export const instancePath = z
  .string()
  .regex(/^\/(?!.*(?:^|\/)\.\.(?:\/|$))[^:]+$/, 'must be an absolute path on the instance, without ..')

export const ssmPath = z
  .string()
  .regex(/^\/[A-Za-z0-9_.\-/]*[A-Za-z0-9_.-]$/, 'must be the name of an SSM parameter, such as /shop/npm-token')
