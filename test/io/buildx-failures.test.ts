import { describe, expect, test } from 'vitest'
import { classifyFailure } from '../../src/io/buildx-failures.ts'

/** Texts that can't be made to happen here; those that can are in buildx-failing.test.ts. */
const classify = (text: string, exit: { code: number | null; signal: NodeJS.Signals | null } = { code: 1, signal: null }) =>
  classifyFailure({ text, exit, step: undefined, freeBytes: undefined, dataRoot: undefined, push: ['r.example/x:1'] })
const solve = (text: string) => classify(`ERROR: failed to solve: ${text}`)

describe('pushing', () => {
  const push = (text: string) => solve(`failed to push r.example/x:1: ${text}`)
  test.each([
    ['unexpected status from HEAD request to https://r.example/v2/x/blobs/sha256:1: 403 Forbidden', 'registry_denied'],
    [
      'push access denied, repository does not exist or may require authorization: server message: insufficient_scope',
      'registry_denied',
    ],
    ['failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized', 'registry_denied'],
    ['unexpected status from PUT request to https://r.example/v2/x/blobs/uploads/1: 507 Insufficient Storage', 'registry_full'],
    ['failed to do request: Put "https://r.example/v2/": dial tcp: lookup r.example: no such host', 'registry_unreachable'],
    ['failed to do request: Put "https://r.example/v2/": net/http: TLS handshake timeout', 'registry_unreachable'],
    [
      'failed to do request: Put "https://r.example/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority',
      'registry_unreachable',
    ],
    ['failed to copy: failed to do request: Put "https://r.example/v2/": EOF', 'registry_unreachable'],
    [
      'failed to copy: failed to do request: Put "http://r.example/v2/": readfrom tcp 127.0.0.1:1->127.0.0.1:2: write tcp 127.0.0.1:1->127.0.0.1:2: use of closed network connection',
      'registry_unreachable',
    ],
    ['unexpected status from PUT request to https://r.example/v2/x/manifests/1: 502 Bad Gateway', 'registry_error'],
    ['unknown: something new', 'registry_error'],
  ])('%s: %s', async (text, code) => {
    expect(await push(text)).toMatchObject({ kind: 'world', code, exit: 4, ids: { reference: 'r.example/x:1' } })
  })
})

test('what an upload’s address carries behind its path is not told', async () => {
  const { message } = await solve(
    'failed to push r.example/x:1: failed to do request: Put "https://r.example/v2/x/blobs/uploads/1?_state=secret&digest=sha256%3A1": EOF',
  )
  expect(message).toBe('pushing r.example/x:1 failed: failed to do request: Put "https://r.example/v2/x/blobs/uploads/1": EOF')
})

describe('the engine', () => {
  test.each([
    'ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?',
    'ERROR: failed to solve: Unavailable: error reading from server: EOF',
    'ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF',
    'ERROR: failed to receive status: rpc error: code = Canceled desc = context canceled',
    'ERROR: failed to solve: Unavailable: closing transport due to: connection error: desc = "error reading from server: EOF"',
    'ERROR: failed to solve: no active session for abc: context deadline exceeded',
  ])('%s', async (text) => {
    expect(await classify(text)).toMatchObject({ kind: 'world', code: 'engine_gone', exit: 4 })
  })

  test('buildx was killed', async () => {
    expect(await classify('', { code: null, signal: 'SIGKILL' })).toMatchObject({
      code: 'engine_gone',
      message: expect.stringContaining('SIGKILL'),
    })
  })

  test('no permission', async () => {
    const text =
      'ERROR: permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get "http://x": dial unix: connect: permission denied'
    expect(await classify(text)).toMatchObject({ code: 'engine_denied', exit: 4 })
  })

  test('its disk is full', async () => {
    expect(await solve('failed to copy: write /var/lib/containerd/ingest/1/data: no space left on device')).toMatchObject({
      code: 'disk_full',
      exit: 4,
    })
  })
})

describe('base images', () => {
  test.each([
    'docker.io/x/y: failed to resolve source metadata for docker.io/x/y:latest: failed to authorize: failed to fetch anonymous token: Get "https://auth.docker.io/token": dial tcp: i/o timeout',
    'docker.io/x/y: failed to resolve source metadata for docker.io/x/y:latest: unexpected status from HEAD request to https://h: 429 Too Many Requests',
    'failed to copy: httpReadSeeker: failed open: unexpected status code https://h/v2/x/blobs/sha256:1: 500 Internal Server Error',
  ])('%s: base_pull_failed', async (text) => {
    expect(await solve(text)).toMatchObject({ kind: 'world', code: 'base_pull_failed', exit: 4 })
  })
})

test('a step’s own command is no evidence', async () => {
  const text =
    'process "/bin/sh -c echo no space left on device; echo failed to push x: 401 denied" did not complete successfully: exit code: 1'
  expect(await solve(text)).toMatchObject({ kind: 'user', code: 'dockerfile_failed' })
})

test('a step that was killed gets a hint about memory', async () => {
  const error = await solve('process "/bin/sh -c make" did not complete successfully: exit code: 137')
  expect(error).toMatchObject({ code: 'dockerfile_failed', ids: { exit_code: '137' }, next: expect.stringContaining('memory') })
})

test('the last ERROR counts, and may have several lines', async () => {
  const error = await classify('WARNING: x\nERROR: something before\nERROR: failed to solve: first\nsecond\n')
  expect(error).toMatchObject({ code: 'build_failed', message: 'the build failed: first\nsecond' })
})
