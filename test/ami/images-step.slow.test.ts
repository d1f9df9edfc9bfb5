import { mkdirSync, writeFileSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { renderMachine, writeRendered } from '../../src/ami/render.ts'
import { spawnChild } from '../../src/io/child.ts'
import { type OwnEngine, startEngine } from '../support/engine.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pushImage } from '../support/registry-push.ts'
import { plan, service } from './plan.ts'

const canRun = process.platform === 'linux' && process.getuid?.() === 0

describe.skipIf(!canRun)('the step images', () => {
  let dir: string
  let registry: TestRegistry
  let engine: OwnEngine
  const authorization = `Basic ${Buffer.from('bake:s3cret').toString('base64')}`

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'bake-images-'))
    registry = await startRegistry({ auth: true })
    engine = await startEngine({ reach: [registry.host] })
  })
  afterAll(async () => {
    await engine?.[Symbol.asyncDispose]()
    await registry?.[Symbol.asyncDispose]()
    await rm(dir, { recursive: true, force: true })
  })

  const push = (path: string, options: { platforms?: string[]; content?: string } = {}) =>
    pushImage(registry.host, path, '1', { ...options, authorization })
  const of = (path: string, digest: string) =>
    service(path.replace('/', '-'), { reference: { image: path, repository: `${registry.host}/${path}`, digest } })

  let runs = 0
  const pull = async (services: ReturnType<typeof of>[], login = true) => {
    const out = join(dir, `run-${runs++}`)
    const rendered = await renderMachine(plan(services), new Map())
    await writeRendered(out, rendered, '')
    if (login) {
      mkdirSync(join(out, 'machine/login'))
      const auths = { [registry.host]: { auth: authorization.replace('Basic ', '') } }
      writeFileSync(join(out, 'machine/login/config.json'), JSON.stringify({ auths }))
    }
    await using child = spawnChild('bash', ['-euo', 'pipefail', join(out, 'machine/steps/images.sh')], {
      env: { PATH: process.env.PATH, HOME: out, DOCKER_HOST: engine.host },
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const [stdout, stderr, { code }] = await Promise.all([text(child.stdout!), text(child.stderr!), child.exited])
    return { code, stdout, stderr, out }
  }

  test('brings images by digest, an index as well, with the login that lies beside it, and removes that', async () => {
    const [plain, index] = [await push('shop/plain'), await push('shop/index', { platforms: ['linux/amd64', 'linux/arm64'] })]
    const { code, stdout, stderr, out } = await pull([of('shop/plain', plain), of('shop/index', index), of('shop/plain', plain)])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.match(/^pulled .*$/gm)?.map((line) => line.replace(/ in \d+ s$/, ''))).toEqual([
      `pulled ${registry.host}/shop/plain@${plain}`,
      `pulled ${registry.host}/shop/index@${index}`,
    ])
    expect(stdout).toMatch(/^bake-phase: images begin$[\s\S]*^bake-phase: images end$/m)
    await expect(readFile(join(out, 'machine/login/config.json'))).rejects.toMatchObject({ code: 'ENOENT' })
  })

  test('fails for an image of another architecture', async () => {
    const { code, stderr } = await pull([of('shop/arm', await push('shop/arm', { platforms: ['linux/arm64'] }))])
    expect(code).toBe(1)
    expect(stderr).toMatch(/^bake: .*shop\/arm@sha256:\w+ is for linux\/arm64, and the machine is linux\/amd64$/m)
  })

  test('fails for a digest that isn’t there, and without a login, with what docker says', async () => {
    const missing = await pull([of('shop/plain', `sha256:${'0'.repeat(64)}`)])
    expect(missing.code).toBe(1)
    expect(missing.stderr).toMatch(/^bake: can't pull .*shop\/plain@sha256:0+: .*not found/m)
    const secret = await push('shop/secret', { content: 'another' })
    const { code, stderr } = await pull([of('shop/secret', secret)], false)
    expect(code).toBe(1)
    expect(stderr).toMatch(/^bake: can't pull .*(?:no basic auth|unauthorized|authorization failed)/im)
  })
})
