import { parse } from 'yaml'
import { messageOf, refused } from '../errors.ts'

type Table = Record<string, unknown>
const table = (value: unknown): Table =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Table) : {}

export interface ComposeFile {
  /** For `docker buildx bake`: what it would look for on this machine and doesn't need is gone. */
  text: string
  /** Services that are not built, by name. */
  withoutBuild: string[]
  /** Settings of `build` that older buildx drops, by service. */
  extras: Map<string, { platforms?: string[]; ssh?: string[]; network?: string }>
}

/** Reads a compose file: https://github.com/compose-spec/compose-spec/blob/main/build.md. Throws `compose_invalid` (exit 2). */
export function readCompose(text: string, file: string): ComposeFile {
  let document: Table
  try {
    document = table(parse(text, { merge: true }))
  } catch (error) {
    throw refused('compose_invalid', `${file} is not valid YAML: ${messageOf(error)}`, {
      next: `correct ${file}, or choose another file: bake init --from FILE`,
    })
  }
  const services = Object.entries(table(document.services)).map(([name, value]) => [name, table(value)] as const)
  const built = services.filter(([, service]) => service.build !== undefined || service.extends !== undefined)
  const bare = {
    ...document,
    // How a service runs may name what isn't here: other services, a file of variables, a secret's file that only the worker has.
    services: Object.fromEntries(
      services.map(([name, { build, extends: base, image }]) => [name, { build, extends: base, image }]),
    ),
    secrets: Object.fromEntries(Object.keys(table(document.secrets)).map((name) => [name, { environment: name }])),
  }
  return {
    text: JSON.stringify(bare),
    withoutBuild: services.filter((service) => !built.includes(service)).map(([name]) => name),
    extras: new Map(built.map(([name, service]) => [name, extrasOf(table(service.build))])),
  }
}

function extrasOf(build: Table): { platforms?: string[]; ssh?: string[]; network?: string } {
  const platforms = literals(build.platforms)
  const ssh = literals(Array.isArray(build.ssh) ? build.ssh : Object.keys(table(build.ssh))).map((id) => id.split('=')[0]!)
  return {
    ...(platforms.length > 0 ? { platforms } : {}),
    ...(ssh.length > 0 ? { ssh } : {}),
    ...(literals([build.network]).length > 0 ? { network: String(build.network) } : {}),
  }
}

/** Texts without variables to expand. */
const literals = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((text): text is string => typeof text === 'string' && !text.includes('$')) : []
