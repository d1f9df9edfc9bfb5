import { randomBytes } from 'node:crypto'
import { access, constants, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BakeError, errnoOf, messageOf, refused } from '../errors.ts'
import { isAlive, processStart } from './child-record.ts'
import { type ReadParameters, ssmParameters } from './secrets-ssm.ts'

/** `bake-secrets-<pid>-<start of the process>-<random>`: tells the sweeper whether its owner lives. */
const DIRECTORY = /^bake-secrets-(\d+)-([0-9A-Za-z.]+)-[0-9a-f]+$/
/** As a file's name: no path, no option, no hidden file. */
const ID = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/

export interface SecretSource {
  id: string
  /** A parameter of AWS Systems Manager, read when the worker has no value of its own. */
  ssm?: string | undefined
}

export interface MaterialisedSecrets extends AsyncDisposable {
  /** id → absolute path of a 0600 file. */
  files: Record<string, string>
  /** What must be redacted wherever it turns up. */
  values: string[]
}

/** The environment variable that holds the secret `id`: `npm_token` → BAKE_SECRET_NPM_TOKEN. */
export const secretVariable = (id: string): string => `BAKE_SECRET_${id.toUpperCase().replace(/[-.]/g, '_')}`

/**
 * Writes the secrets `ids` to files for one build, in a directory of `dir` (memory unless told: see secretsHome) that nobody else may read and that is
 * removed on dispose. Throws secret_not_set (exit 2) with all that are unset or empty, and what ssmParameters throws.
 */
export async function materialiseSecrets(
  ids: SecretSource[],
  options: { env: NodeJS.ProcessEnv; dir?: string | undefined; parameters?: ReadParameters },
): Promise<MaterialisedSecrets> {
  if (ids.length === 0) return { files: {}, values: [], [Symbol.asyncDispose]: async () => {} }
  const found = await findAll(ids, options.env, options.parameters ?? ssmParameters())
  const { dir, [Symbol.asyncDispose]: dispose } = await secretsDirectory(options.env, options.dir)
  try {
    const files: Record<string, string> = {}
    for (const { id, value } of found) {
      files[id] = join(dir, id)
      await writeFile(files[id], value, { mode: 0o600, flag: 'wx' })
    }
    return { files, values: found.map(({ value }) => value.toString('utf8')), [Symbol.asyncDispose]: dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/**
 * A new directory for what must not be read by anybody else (0700), in `home` (memory unless told: see secretsHome). Removed on dispose, and by
 * `sweepSecrets` when this process was killed.
 */
export async function secretsDirectory(env: NodeJS.ProcessEnv, home?: string): Promise<{ dir: string } & AsyncDisposable> {
  const name = `bake-secrets-${process.pid}-${processStart(process.pid) ?? '0'}-${randomBytes(6).toString('hex')}`
  const dir = join(home ?? (await secretsHome(env)).dir, name)
  await mkdir(dir, { recursive: true, mode: 0o700 })
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) }
}

/** Where secrets go: memory (/dev/shm or XDG_RUNTIME_DIR) if there is some, else the temporary directory, with a note that says so. */
export async function secretsHome(env: NodeJS.ProcessEnv): Promise<{ dir: string; note?: string }> {
  for (const dir of [process.platform === 'linux' ? '/dev/shm' : undefined, env.XDG_RUNTIME_DIR]) {
    if (dir && (await isWritable(dir))) return { dir }
  }
  return {
    dir: tmpdir(),
    note: `no directory in memory: while a build runs, its secrets are in files (0600) below ${tmpdir()}, on disk`,
  }
}

/** Removes from `dir` what processes that are gone (kill -9) left behind; how many. A worker does this when it starts. */
export async function sweepSecrets(dir?: string): Promise<number> {
  const home = dir ?? (await secretsHome(process.env)).dir
  let swept = 0
  for (const entry of await readdir(home, { withFileTypes: true }).catch(() => [])) {
    const [, pid, start] = DIRECTORY.exec(entry.name) ?? []
    if (!entry.isDirectory() || pid === undefined || start === undefined || isAlive(Number(pid), start)) continue
    // Another user's is not ours to remove.
    await rm(join(home, entry.name), { recursive: true, force: true }).then(
      () => swept++,
      () => {},
    )
  }
  return swept
}

async function findAll(
  ids: SecretSource[],
  env: NodeJS.ProcessEnv,
  parameters: ReadParameters,
): Promise<{ id: string; value: Buffer }[]> {
  const own = await Promise.all(ids.map(async (source) => ({ ...source, value: await find(source.id, env) })))
  const remote = own.flatMap(({ ssm, value }) => (value === undefined && ssm !== undefined ? [ssm] : []))
  const stored = await parameters([...new Set(remote)])
  const read = own.map(({ id, ssm, value }) => ({ id, ssm, value: value ?? filled(stored.get(ssm ?? '')) }))
  const missing = read.filter(({ value }) => value === undefined)
  if (missing.length === 0) return read.map(({ id, value }) => ({ id, value: value! }))
  throw notSet(missing, env)
}

function notSet(missing: SecretSource[], env: NodeJS.ProcessEnv): BakeError {
  const local = missing.filter(({ ssm }) => ssm === undefined).map(({ id }) => id)
  const folder = `the directory BAKE_SECRETS_DIR${env.BAKE_SECRETS_DIR ? ` (${env.BAKE_SECRETS_DIR})` : ''}`
  const nexts = [
    ...(local.length === 0
      ? []
      : [
          `where the worker runs (on one machine: where you run bake), set ${local.map(secretVariable).join(' and ')}, or put ${local.length === 1 ? 'a file' : 'files'} named ${local.join(' and ')} into ${folder}`,
        ]),
    ...missing.flatMap(({ ssm }) =>
      ssm === undefined ? [] : [`aws ssm put-parameter --type SecureString --name ${ssm} --value file://…`],
    ),
  ]
  const names = missing.map(({ id, ssm }) => (ssm === undefined ? id : `${id} (${ssm})`)).join(', ')
  return refused('secret_not_set', `${missing.length === 1 ? 'a secret is' : 'secrets are'} unset or empty: ${names}`, {
    next: nexts.join('; '),
    ids: { secrets: missing.map(({ id }) => id).join(', ') },
  })
}

/** Blanks are a mistake, not a secret. */
const filled = (value: Buffer | undefined): Buffer | undefined =>
  value === undefined || value.toString('latin1').trim() === '' ? undefined : value

async function find(id: string, env: NodeJS.ProcessEnv): Promise<Buffer | undefined> {
  if (!ID.test(id))
    throw refused('secret_id_invalid', `not a secret's id: ${JSON.stringify(id)}`, { next: 'use letters, digits, _ . and -' })
  const variable = env[secretVariable(id)]
  if (variable !== undefined && variable.trim() !== '') return Buffer.from(variable)
  if (!env.BAKE_SECRETS_DIR) return undefined
  const path = join(env.BAKE_SECRETS_DIR, id)
  const value = await readFile(path).catch((cause: unknown) => {
    if (errnoOf(cause) === 'ENOENT') return undefined
    throw refused('secret_not_readable', `the secret ${id} can't be read: ${messageOf(cause)}`, {
      next: `make ${path} a readable file`,
      cause,
    })
  })
  return filled(value)
}

const isWritable = (dir: string): Promise<boolean> =>
  access(dir, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  )
