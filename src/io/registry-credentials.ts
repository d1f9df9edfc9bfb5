import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'

export interface Credentials {
  username: string
  password: string
  /** An OAuth refresh token instead of a password. */
  identityToken?: string
  /** They end by themselves: ask again from this time on, ms since the epoch, and when they are refused. */
  renewAtMs?: number
}

/** What to show `host` (with its port). `refused`: the Authorization header that it turned down just now, if there was one. */
export type CredentialSource = (host: string, refused?: string) => Promise<Credentials | undefined>

/** A keychain that asks its user can take this long; then the request goes on without. */
const HELPER_TIMEOUT_MS = 10_000

/** The names under which a host's credentials may stand: `docker login` writes Docker Hub's under its first API's URL. */
const namesOf = (host: string): string[] =>
  host === 'docker.io'
    ? ['https://index.docker.io/v1/', 'index.docker.io', 'docker.io', 'registry-1.docker.io']
    : [host, `https://${host}`, `http://${host}`, `https://${host}/v1/`, `https://${host}/v2/`]

/**
 * What `docker login` stored: credHelpers, credsStore, auths of `$DOCKER_CONFIG/config.json` (~/.docker). Undefined when there is nothing, or when it can't
 * be read: many registries need none. Source: https://docs.docker.com/reference/cli/docker/login/#credential-stores
 */
export async function dockerCredentials(host: string, env: NodeJS.ProcessEnv = process.env): Promise<Credentials | undefined> {
  const config = await readConfig(join(env.DOCKER_CONFIG || join(homedir(), '.docker'), 'config.json'))
  if (!config) return undefined
  const names = namesOf(host)
  for (const name of names) {
    const helper = text(record(config.credHelpers)[name])
    if (helper) return fromHelper(helper, name)
  }
  const store = text(config.credsStore)
  const auths = record(config.auths)
  const stored = names.find((name) => Object.hasOwn(auths, name))
  if (store) {
    const found = await fromHelper(store, stored ?? names[0]!)
    if (found) return found
  }
  return stored === undefined ? undefined : fromAuth(record(auths[stored]))
}

async function readConfig(path: string): Promise<Record<string, unknown> | undefined> {
  try {
    return record(JSON.parse(await readFile(path, 'utf8')))
  } catch {
    return undefined
  }
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)

function fromAuth(entry: Record<string, unknown>): Credentials | undefined {
  const identityToken = text(entry.identitytoken)
  const [username, ...rest] = Buffer.from(text(entry.auth) ?? '', 'base64')
    .toString('utf8')
    .split(':')
  if (identityToken) return { username: username ?? '', password: '', identityToken }
  const password = rest.join(':').replace(/\0+$/, '')
  return username && password ? { username, password } : undefined
}

/** `docker-credential-<name> get`: the server on stdin, JSON on stdout. */
async function fromHelper(name: string, server: string): Promise<Credentials | undefined> {
  if (!/^[\w.-]+$/.test(name)) return undefined
  const output = await new Promise<string | undefined>((resolve) => {
    const child = spawn(`docker-credential-${name}`, ['get'], {
      stdio: ['pipe', 'pipe', 'ignore'],
      timeout: HELPER_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    })
    let answer = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      answer += part
    })
    child.on('error', () => resolve(undefined))
    child.on('close', (code) => resolve(code === 0 ? answer : undefined))
    child.stdin.on('error', () => {})
    child.stdin.end(server)
  })
  if (output === undefined) return undefined
  try {
    const found = record(JSON.parse(output))
    const username = text(found.Username)
    const secret = text(found.Secret)
    if (!username || !secret) return undefined
    // Docker's convention for "the secret is an identity token".
    return username === '<token>' ? { username: '', password: '', identityToken: secret } : { username, password: secret }
  } catch {
    return undefined
  }
}
