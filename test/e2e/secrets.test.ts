import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseReference } from '../../src/reference.ts'
import { type BadProject, badProject, expectError, expectNothingLeft, yaml } from '../support/bad-input.ts'
import { BASE_IMAGE, WEB_FILES } from '../support/project.ts'
import { formsOf, inFiles, inTexts, watchProcesses } from '../support/secret-hunt.ts'

const TOKEN = 'npm_Zq7"x/+&é<Kp2mW9vR4tY8'
const KEY = `-----BEGIN PRIVATE KEY-----\n${Array.from({ length: 6 }, (_, n) => createHash('sha256').update(`line ${n}`).digest('base64')).join('\n')}\n-----END PRIVATE KEY-----\n`
/** What every such file begins and ends with is no secret. */
const FORMS = [...formsOf(TOKEN), ...formsOf(KEY).filter((form) => !form.startsWith('-----'))]
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

const NO_AGENT = { SSH_AUTH_SOCK: undefined }
const FLAGS = [['--progress=plain'], ['--json']]

const MOUNTS = '--mount=type=secret,id=npm_token --mount=type=secret,id=deploy_key'
/** Everything a careless build may do with a secret, and in the end what shows that it had the right one. */
const PRINT = [
  'cd /run/secrets',
  'cat npm_token deploy_key; echo',
  'tac deploy_key',
  'base64 npm_token; base64 deploy_key; base64 -w0 deploy_key; echo',
  'echo "$(cat npm_token)" | base64',
  `od -An -v -tx1 npm_token | tr -d ' \\\\n'; echo`,
  'echo "token=$(cat npm_token);" >&2',
  'sha256sum npm_token deploy_key',
].join('; ')
const config = (more = '') => yaml(`{ context: web, secrets: [npm_token, deploy_key]${more} }`)
const dockerfile = (end: string) =>
  `FROM ${BASE_IMAGE}\nCOPY server.js /\nRUN ${MOUNTS} ${PRINT}; echo ${Math.random()}; ${end}\n`

describe('a secret that a build prints in every form', { timeout: 180_000 }, () => {
  let project: BadProject
  let secretsDir: string
  beforeAll(async () => {
    // The one by a variable, the other as a file of a directory that is named from where bake runs.
    secretsDir = await mkdtemp(join(tmpdir(), 'bake-test-secrets-'))
    await writeFile(join(secretsDir, 'deploy_key'), KEY, { mode: 0o600 })
    const env = { BAKE_SECRET_NPM_TOKEN: TOKEN, BAKE_SECRETS_DIR: secretsDir }
    project = await badProject({ ...WEB_FILES, 'bake.yaml': config() }, env)
  })
  afterAll(async () => {
    await project[Symbol.asyncDispose]()
    await rm(secretsDir, { recursive: true })
  })

  /** Everywhere that bake tells or keeps anything about the newest build. */
  async function expectNowhere(texts: Record<string, string>): Promise<void> {
    for (const args of [
      ['logs', 'latest'],
      ['logs', 'latest', '--json'],
      ['build', 'latest'],
      ['build', 'latest', '--json'],
      ['builds', '--json'],
    ]) {
      const { stdout, stderr } = await project.bake(args)
      texts[`bake ${args.join(' ')}`] = stdout + stderr
    }
    expect(inTexts(texts, FORMS)).toEqual([])
    // The ledger, host.log, the queue, mirrors, slots, the registry with configs, histories and caches; and temporary files.
    expect(await inFiles(project.dir, FORMS)).toEqual([])
    await expectNothingLeft(project)
  }

  test.for(FLAGS)('shows nowhere when the build ends well: bake image $0', async (flags) => {
    await project.change({ 'web/Dockerfile': dockerfile('sleep 1') })
    await using watch = watchProcesses(FORMS)
    const built = await project.bake(['image', ...flags])
    const { hits, buildx } = await watch.stop()
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(buildx, 'buildx was looked at').toBeGreaterThan(0)
    expect(hits).toEqual([])
    // The build had the secrets and printed them.
    const { stdout: log } = await project.bake(['logs', 'latest'])
    expect(log).toContain(sha256(TOKEN))
    expect(log).toContain(sha256(KEY))
    expect(log).toContain('token=***;')
    expect(log.match(/\| \*\*\*/g)?.length).toBeGreaterThan(10)
    await expectNowhere({ stdout: built.stdout, stderr: built.stderr })
  })

  test.for(FLAGS)('shows nowhere when the build fails: bake image $0', async (flags) => {
    await project.change({ 'web/Dockerfile': dockerfile('cat npm_token; exit 6') })
    const result = await project.bake(['image', ...flags])
    expect(result, result.stderr).toMatchObject({ code: 3 })
    const [record] = await project.builds()
    expect(record!.failure!.message).toMatch(/exit code 6/)
    expect(record!.failure!.message).toContain('***')
    await expectNowhere({ stdout: result.stdout, stderr: result.stderr, record: JSON.stringify(record) })
  })

  test('is not in the provenance of an image with attest: true', async () => {
    await using _ = await standInScanner()
    await project.change({ 'bake.yaml': config(', attest: true'), 'web/Dockerfile': dockerfile('true') })
    const built = await project.bake(['image'])
    expect(built, built.stderr).toMatchObject({ code: 0 })
    const attestations = await attestationsOf(project, built.stdout.trim())
    expect(attestations).toContain('https://slsa.dev/provenance')
    expect(attestations, 'its id is told, and that is all').toContain('npm_token')
    await expectNowhere({ attestations })
  })
})

describe('a host that runs already', { timeout: 180_000 }, () => {
  test('gets the secrets of whoever asks now: unset is refused, set builds, the newest value counts', async () => {
    await using project = await badProject({ ...WEB_FILES, 'bake.yaml': yaml('{ context: web, secrets: [npm_token] }') })
    const print = () =>
      `FROM ${BASE_IMAGE}\nRUN --mount=type=secret,id=npm_token sha256sum /run/secrets/npm_token; echo ${Math.random()}\n`
    const unset = await project.image({ 'web/Dockerfile': print() })
    expectError(unset, { exit: 2, error: /unset or empty: npm_token/, next: /BAKE_SECRET_NPM_TOKEN.*BAKE_SECRETS_DIR/ })
    expect((await project.builds())[0]).toMatchObject({ status: 'failed', failure: { code: 'secret_not_set' } })
    await expectNothingLeft(project)
    const { pid } = (await project.host())!

    const ask = async (env: Record<string, string>) => {
      await project.change({ 'web/Dockerfile': print() })
      const built = await project.bake(['image'], { env })
      expect(built, built.stderr).toMatchObject({ code: 0 })
      expect((await project.host())!.pid).toBe(pid)
      return built.stderr
    }
    expect(await ask({ BAKE_SECRET_NPM_TOKEN: 'first value' })).toContain(sha256('first value'))
    expect(await ask({ BAKE_SECRET_NPM_TOKEN: 'second value' })).toContain(sha256('second value'))
    expect(await ask({ BAKE_SECRET_NPM_TOKEN: ' ' }), 'blank is unset').toContain(sha256('second value'))
    // As large as one variable may be (execve(2): 32 pages).
    const large = 'x'.repeat(100_000)
    expect(await ask({ BAKE_SECRET_NPM_TOKEN: large })).toContain(sha256(large))
    expect(await inFiles(project.dir, ['first value', 'second value', large])).toEqual([])
    await expectNothingLeft(project)
  })

  test('finds a BAKE_SECRETS_DIR that is relative to where bake was started', async () => {
    await using project = await badProject({ ...WEB_FILES, 'bake.yaml': yaml('{ context: web, secrets: [npm_token] }') })
    const print = `FROM ${BASE_IMAGE}\nRUN --mount=type=secret,id=npm_token sha256sum /run/secrets/npm_token; echo ${Math.random()}\n`
    const commit = await project.change({ 'web/Dockerfile': print })
    const { dir } = project
    await mkdir(join(dir, '.git/secrets'))
    await writeFile(join(dir, '.git/secrets/npm_token'), 'in a file')
    const built = await project.bake(['image', '--sha', commit], {
      cwd: join(dir, 'web'),
      env: { BAKE_SECRETS_DIR: '../.git/secrets' },
    })
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(built.stderr).toContain(sha256('in a file'))
    await expectNothingLeft(project)
  })
})

test('a host that runs already forwards the SSH agent of whoever asks now', async () => {
  await using project = await badProject({ ...WEB_FILES, 'bake.yaml': yaml('{ context: web, ssh: [default] }') }, NO_AGENT)
  const dockerfile = `FROM ${BASE_IMAGE}\nRUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && echo agent here ${Math.random()}\n`
  const without = await project.image({ 'web/Dockerfile': dockerfile })
  expectError(without, { exit: 4, error: /agent/, next: /SSH_AUTH_SOCK/ })
  const { pid } = (await project.host())!

  const socket = join(project.dir, '.git/agent')
  // Nobody asks it for a key: that it is there is enough.
  const agent = createServer((connection) => connection.end())
  await new Promise<void>((resolve) => agent.listen(socket, resolve))
  try {
    const built = await project.bake(['retry', 'latest'], { env: { SSH_AUTH_SOCK: socket } })
    expect(built, built.stderr).toMatchObject({ code: 0 })
    expect(built.stderr).toMatch(/\| agent here/)
    expect((await project.host())!.pid).toBe(pid)
  } finally {
    agent.close()
  }
  await expectNothingLeft(project)
})

/** BuildKit makes attestations only with a scanner, whose image no test can pull. It says nothing of note; the provenance is BuildKit's own. */
async function standInScanner(): Promise<AsyncDisposable> {
  const tag = 'docker/buildkit-syft-scanner:stable-1'
  const statement = {
    _type: 'https://in-toto.io/Statement/v0.1',
    predicateType: 'https://spdx.dev/Document',
    subject: [],
    predicate: {},
  }
  const command = `printf %s '${JSON.stringify(statement)}' > "$BUILDKIT_SCAN_DESTINATION/scan.spdx.json"`
  const text = `FROM ${BASE_IMAGE}\nENTRYPOINT ${JSON.stringify(['/bin/sh', '-c', command])}\n`
  if (execFileSync('docker', ['images', '-q', tag]).length > 0) return { [Symbol.asyncDispose]: async () => {} }
  execFileSync('docker', ['build', '-q', '-t', tag, '-'], { input: text })
  return { [Symbol.asyncDispose]: async () => void execFileSync('docker', ['rmi', tag]) }
}

/** The statements of an image's attestation manifests, as they are in the registry. */
async function attestationsOf({ registry }: BadProject, image: string): Promise<string> {
  const reference = parseReference(image)
  const manifestOf = async (digest: string) =>
    JSON.parse(Buffer.from((await registry.manifest({ ...reference, digest }))!.bytes).toString('utf8'))
  const { manifests } = (await manifestOf(reference.digest!)) as { manifests: { digest: string; platform: { os: string } }[] }
  const texts: string[] = []
  for (const { digest } of manifests.filter(({ platform }) => platform.os === 'unknown')) {
    const { layers } = (await manifestOf(digest)) as { layers: { digest: string }[] }
    for (const layer of layers) texts.push(Buffer.from(await registry.blob(reference, layer.digest)).toString('utf8'))
  }
  return texts.join('\n')
}
