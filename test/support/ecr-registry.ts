import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http'
import { DescribeRepositoriesCommand, ECRClient, type Repository } from '@aws-sdk/client-ecr'
import { startRegistry } from './registry.ts'
import { serve } from './serve.ts'

/**
 * Stand-in for what moto's ECR lacks: blobs (a real docker-registry has them), tokens that differ and end (moto gives one for ever, dated 2015), and a registry
 * that asks for them. Answers are those of the real one: no credentials 401 with a Basic challenge, an expired token 403 DENIED without a challenge, a
 * repository that nobody created 404 NAME_UNKNOWN, a tag that may not move 400 TAG_INVALID. Every other call of ECR's API is passed on to moto.
 */
export interface EcrStandIn extends AsyncDisposable {
  /** `localhost:<port>` of the registry. */
  readonly host: string
  /** What points a child process at it: AWS_ENDPOINT_URL_ECR, credentials and BAKE_ECR_REGISTRIES. */
  readonly env: Record<string, string>
  /** Tokens given out so far. */
  readonly issued: number
  /** Calls of ECR's API, by name. */
  readonly calls: string[]
  /** From now on no token that was given out before is valid. */
  expire(): void
  /** Seen before each request to the registry that carries a valid token, in order; may expire it. A status given back is the answer. */
  watch: (request: { method: string; path: string }) => number | undefined
  /** How long a new token says that it lives; 12 h unless told. */
  lifeMs: number
}

const ACCEPT = 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json'

const ACCOUNT = '123456789012'

export async function startEcrStandIn(options: { moto?: string } = {}): Promise<EcrStandIn> {
  const registry = await startRegistry()
  const [hostname, port] = registry.host.split(':')
  const valid = new Set<string>()
  const given = new Set<string>()
  const ecr =
    options.moto === undefined
      ? undefined
      : new ECRClient({
          endpoint: options.moto,
          region: 'us-east-1',
          credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
        })
  const state = {
    calls: [] as string[],
    lifeMs: 12 * 3600_000,
    watch: (() => undefined) as EcrStandIn['watch'],
    expire: () => valid.clear(),
    get issued() {
      return given.size
    },
  }

  const server = createServer((request, response) => {
    const target = String(request.headers['x-amz-target'] ?? '')
    const handled = target === '' ? serveRegistry(request, response) : serveApi(target, request, response)
    handled.catch((error) => response.destroy(error))
  })

  async function serveApi(target: string, request: IncomingMessage, response: ServerResponse) {
    const call = target.slice(target.indexOf('.') + 1)
    state.calls.push(call)
    if (call !== 'GetAuthorizationToken') {
      if (options.moto === undefined) return void json(response, 400, { __type: 'UnknownOperationException' })
      return passOn(request, response, new URL(options.moto))
    }
    const token = randomBytes(24).toString('base64url')
    valid.add(token)
    given.add(token)
    const data = {
      authorizationToken: Buffer.from(`AWS:${token}`).toString('base64'),
      expiresAt: (Date.now() + state.lifeMs) / 1000,
      proxyEndpoint: `http://${host}`,
    }
    request.resume()
    json(response, 200, { authorizationData: [data] })
  }

  async function serveRegistry(request: IncomingMessage, response: ServerResponse) {
    const { method = '', url: path = '', headers } = request
    const [user, token = ''] = Buffer.from(/^Basic (.*)$/.exec(headers.authorization ?? '')?.[1] ?? '', 'base64')
      .toString()
      .split(':')
    if (user !== 'AWS' || !given.has(token)) {
      response.setHeader('www-authenticate', `Basic realm="http://${host}/",service="ecr.amazonaws.com"`)
      return deny(request, response, 401, 'UNAUTHORIZED', 'not authorized')
    }
    // Before the token is looked at: a test may let it end right now.
    const status = state.watch({ method, path })
    if (status !== undefined) return deny(request, response, status, 'DENIED', 'the test says so')
    if (!valid.has(token))
      return deny(request, response, 403, 'DENIED', 'Your authorization token has expired. Reauthenticate and try again.')
    const name = /^\/v2\/(.+)\/(?:blobs|manifests|tags)\//.exec(path)?.[1]
    const repository = name === undefined ? undefined : await lookUp(name)
    if (name !== undefined && ecr !== undefined && repository === undefined)
      return deny(
        request,
        response,
        404,
        'NAME_UNKNOWN',
        `The repository with name '${name}' does not exist in the registry with id '${ACCOUNT}'`,
      )
    const tag = method === 'PUT' ? /\/manifests\/([^:]+)$/.exec(path)?.[1] : undefined
    if (tag !== undefined && repository !== undefined && !mayMove(repository, tag) && (await isThere(path)))
      return deny(
        request,
        response,
        400,
        'TAG_INVALID',
        `The image tag '${tag}' already exists in the '${name}' repository and cannot be overwritten because the tag is immutable.`,
      )
    return passOn(request, response, new URL(`http://${hostname}:${port}`))
  }

  const lookUp = async (name: string): Promise<Repository | undefined> =>
    ecr
      ?.send(new DescribeRepositoriesCommand({ repositoryNames: [name] }))
      .then(({ repositories }) => repositories?.[0])
      .catch(() => undefined)

  const isThere = async (path: string) =>
    (await fetch(`http://${hostname}:${port}${path}`, { method: 'HEAD', headers: { accept: ACCEPT } })).ok

  const { port: own, endpoint, close } = await serve(server)
  const host = `localhost:${own}`
  return Object.defineProperties(state, {
    host: { value: host },
    env: {
      value: {
        AWS_ENDPOINT_URL_ECR: endpoint,
        AWS_ACCESS_KEY_ID: 'test',
        AWS_SECRET_ACCESS_KEY: 'test',
        BAKE_ECR_REGISTRIES: `${host}=${ACCOUNT}@us-east-1`,
      },
    },
    [Symbol.asyncDispose]: {
      value: async () => {
        ecr?.destroy()
        await close()
        await registry[Symbol.asyncDispose]()
      },
    },
  }) as unknown as EcrStandIn
}

/** The rule of `IMMUTABLE_WITH_EXCLUSION`: a filter with `*` lets its tags move. */
function mayMove({ imageTagMutability = 'MUTABLE', imageTagMutabilityExclusionFilters = [] }: Repository, tag: string): boolean {
  if (!imageTagMutability.startsWith('IMMUTABLE')) return true
  return imageTagMutabilityExclusionFilters.some(({ filter = '' }) =>
    filter.endsWith('*') ? tag.startsWith(filter.slice(0, -1)) : tag === filter,
  )
}

function deny(request: IncomingMessage, response: ServerResponse, status: number, code: string, message: string): void {
  request.resume()
  json(response, status, { errors: [{ code, message }] })
}

function json(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' }).end(JSON.stringify(value))
}

function passOn(request: IncomingMessage, response: ServerResponse, { hostname, port }: URL): void {
  // With this door's own Host header, so that upload locations lead through it again.
  const { method, url: path, headers } = request
  const { authorization: _, ...rest } = headers
  const kept = headers['x-amz-target'] === undefined ? rest : headers
  const call = send({ hostname, port, method, path, headers: kept, agent: false }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    answer.pipe(response)
  })
  call.on('error', () => response.destroy())
  request.on('error', () => call.destroy())
  request.pipe(call)
}
