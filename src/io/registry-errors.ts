import { type BakeError, errnoOf, BakeError as Known, messageOf, unavailable } from '../errors.ts'
import { ecrRegistry } from './ecr-host.ts'
import { type HttpResponse, isFull } from './registry-request.ts'

/** Of a transport error: `registry_unreachable`, with what the network said and what to try. */
export function unreachable(host: string, error: unknown): BakeError {
  if (error instanceof Known) return error
  const code = error instanceof AggregateError ? errnoOf(error.errors[0]) : errnoOf(error)
  const [what, next] = reasonOf(code, error, host)
  return unavailable('registry_unreachable', `registry ${host} can't be reached: ${what}`, { next, ids: { host }, cause: error })
}

function reasonOf(code: string | undefined, error: unknown, host: string): [what: string, next: string] {
  if (error instanceof DOMException && error.name === 'TimeoutError')
    return ['no answer in time', `curl -v ${originOf(host)}/v2/`]
  if (code === 'ECONNREFUSED')
    return ['nothing listens there', isLocal(host) ? `start it: it should listen on ${host}` : `curl -v ${originOf(host)}/v2/`]
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return ['its name does not resolve', 'check the name and the network']
  if (code?.startsWith('ERR_TLS') || /CERT|SELF_SIGNED|UNABLE_TO_/.test(code ?? ''))
    return [`its certificate is not trusted (${code})`, 'set NODE_EXTRA_CA_CERTS to the file of your certificate authority']
  return [messageOf(error), `curl -v ${originOf(host)}/v2/`]
}

/** Of an answer that is neither success nor 404: registry_denied, registry_full or registry_error. */
export function refusedBy(host: string, what: string, answer: HttpResponse): BakeError {
  const said = reasonIn(answer)
  const ids = { host, status: String(answer.status) }
  if (answer.status === 401 || answer.status === 403)
    return unavailable('registry_denied', `registry ${host} refuses ${what}: ${said}`, {
      next: permissionHint(host),
      ids,
    })
  const code = codeIn(answer)
  if (answer.status === 404 && code === 'NAME_UNKNOWN')
    return unavailable('repository_missing', `registry ${host} has no such repository (${what}): ${said}`, {
      next: 'create that repository; on ECR bake setup does it',
      ids,
    })
  if (answer.status === 400 && code === 'TAG_INVALID')
    return unavailable('tag_immutable', `registry ${host} doesn't let a tag move (${what}): ${said}`, {
      next: 'let tags that start with branch- move: bake setup sets an ECR repository so',
      ids,
    })
  if (isFull(answer))
    return unavailable('registry_full', `registry ${host} has no space left (${what})`, {
      next: `free space where ${host} keeps its data`,
      ids,
    })
  const next =
    answer.status === 429 ? 'wait a while, or docker login: a known account may ask more often' : `look at the log of ${host}`
  return unavailable('registry_error', `registry ${host} failed at ${what}: ${said}`, { next, ids })
}

/** What to do when `host` lets nobody in, or not for this. */
const permissionHint = (host: string): string =>
  ecrRegistry(host, process.env) === undefined
    ? `docker login ${host}, with an account that may do this; then try again`
    : 'check the AWS credentials, and that they allow this: bake setup --policies prints what people and workers need'

/** An answer that breaks the protocol. */
export const malformed = (host: string, what: string, cause?: unknown): BakeError =>
  unavailable('registry_error', `registry ${host} ${what}`, {
    next: `check that ${host} is a registry and that no proxy answers for it`,
    ids: { host },
    cause,
  })

/** The first message of `{"errors":[{code,message}]}` (distribution-spec, "Error Codes"), else the status. */
function reasonIn({ status, body }: HttpResponse): string {
  try {
    const parsed = JSON.parse(body.toString('utf8'))
    const first = parsed.errors?.[0] ?? parsed
    const text = [first.code, first.message ?? parsed.details]
      .filter((part) => typeof part === 'string' && part !== '')
      .join(': ')
    return text === '' ? `HTTP ${status}` : `${text.slice(0, 300)} (HTTP ${status})`
  } catch {
    return `HTTP ${status}`
  }
}

/** The `code` of the first error. */
function codeIn({ body }: HttpResponse): string | undefined {
  try {
    return JSON.parse(body.toString('utf8')).errors?.[0]?.code
  } catch {
    return undefined
  }
}

/** True for this machine: Docker speaks plain HTTP with it, without a setting. */
function isLocal(host: string): boolean {
  const name = host.replace(/:\d+$/, '')
  return name === 'localhost' || name === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(name)
}

/** `http://localhost:5000`; Docker Hub's API has a host of its own. */
export const originOf = (host: string): string =>
  isLocal(host) ? `http://${host}` : `https://${host === 'docker.io' ? 'registry-1.docker.io' : host}`
