import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type ImageJob, parseBody } from '../../src/jobs/job.ts'
import { commitDocumentSchema, read } from '../../src/jobs/records.ts'
import { keys, newBuildId } from '../../src/names.ts'
import { waitFor } from '../../src/wait.ts'
import type { RunningBake } from '../support/bake.ts'
import { cells } from '../support/cells.ts'
import { mutations } from '../support/mutations.ts'
import { makeProject, type TestProject, WEB_FILES } from '../support/project.ts'
import { openRawQueue, type RawQueue } from '../support/queue.ts'

/** What SQS and its emulator take at most, body and attributes together. */
const QUEUE_LIMIT_BYTES = 1024 * 1024

interface Scene extends AsyncDisposable {
  project: TestProject
  worker: RunningBake
  queue: RawQueue
  /** A job as an honest asker makes it for HEAD, whose image is published: another id, and what the test changes. */
  job(changes?: object): Promise<ImageJob>
}

/** A project with one worker to watch, after a first build. */
async function open(): Promise<Scene> {
  await using stack = new AsyncDisposableStack()
  const files = { ...WEB_FILES, 'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n' }
  const project = stack.use(await makeProject(files, { BAKE_HOST_LINGER_MS: '20000', BAKE_DEFAULT_WORKER: '0' }))
  const worker = stack.use(project.start(['worker']))
  await worker.waitFor('stderr', /is ready/)
  const first = await project.bake(['image'])
  expect(first, first.stderr).toMatchObject({ code: 0 })
  const queue = stack.use(await openRawQueue(project.dir))
  const rest = stack.move()
  return {
    project,
    worker,
    queue,
    async job(changes = {}) {
      const [record] = await project.builds()
      const { repository, config, image, commit, branch, key } = record!
      const document = await read(project.ledger, keys.commit(commit, image), commitDocumentSchema)
      return {
        ...{ version: 1, kind: 'image', build: newBuildId(), project: 'shop', repository, config, commit, image, key },
        ...{ pins: document!.pins, branch, priority: 'normal', rebuild: false, ...changes },
      } as ImageJob
    },
    async [Symbol.asyncDispose]() {
      worker.kill('SIGTERM')
      await worker.wait()
      await rest.disposeAsync()
    },
  }
}

/** The worker has taken everything that it takes. */
const settled = (queue: RawQueue, expected: { dead: number; left?: number }) =>
  waitFor(
    async () => {
      const { visible, inFlight, delayed, dead } = await queue.depth()
      return (visible + inFlight + delayed === (expected.left ?? 0) && dead === expected.dead) || undefined
    },
    { what: `${JSON.stringify(expected)} on the queue`, deadlineMs: 20_000, intervalMs: 50 },
  ).catch(async (error) => {
    throw new Error(`${error}: ${JSON.stringify(await queue.depth())} ${JSON.stringify(await queue.dead()).slice(0, 2000)}`)
  })

/** The worker still does what it is there for. */
async function expectWorking({ project }: Scene) {
  const commit = await project.repo.commit({ 'web/server.js': `// ${Math.random()}\n` })
  const built = await project.bake(['image'])
  expect(built, built.stderr).toMatchObject({ code: 0 })
  expect(await project.tagged(`sha-${commit}`)).toBe(built.stdout.trim().split('@')[1])
}

describe('what is no job of ours', () => {
  test('lies in the dead letters with a reason; nothing ran, the worker works on', async () => {
    await using scene = await open()
    const { project, queue, worker } = scene
    const job = await scene.job()
    const atLimit = JSON.stringify({ ...job, padding: '' })
    const bad: [body: string, reason: RegExp | undefined][] = [
      ['hello', /^not JSON$/],
      ['{"version": 1, "kind": "image"', /^not JSON$/],
      ['null', /^body: /],
      ['[]', /^body: /],
      ['"a string"', /^body: /],
      ['{}', /^version: /],
      [JSON.stringify({ ...job, version: 0 }), /^version: /],
      [JSON.stringify({ ...job, version: '1' }), /^version: /],
      [JSON.stringify({ ...job, version: 1.5 }), /^version: /],
      [JSON.stringify({ ...job, kind: 'Machine!' }), /^kind: /],
      [JSON.stringify({ ...job, kind: ['machine'] }), /^kind: /],
      [JSON.stringify({ ...job, options: ['--privileged'] }), /^body: Unrecognized key: "options"/],
      [JSON.stringify({ ...job, commit: 'HEAD' }), /^commit: /],
      [JSON.stringify({ ...job, commit: [job.commit] }), /^commit: /],
      [JSON.stringify({ ...job, key: `${job.key}/../x` }), /^key: /],
      [JSON.stringify({ ...job, build: '../../x' }), /^build: /],
      [JSON.stringify({ ...job, image: 'web/../../x' }), /^image: /],
      [JSON.stringify({ ...job, branch: 'a:b' }), /^branch: /],
      [JSON.stringify({ ...job, branch: '--upload-pack=touch x' }), /^branch: /],
      [JSON.stringify({ ...job, pins: [{ reference: 'x', digest: 'latest' }] }), /^pins\.0\.digest: /],
      [JSON.stringify({ ...job, config: 'x'.repeat(220 * 1024) }), /^larger than 204800 bytes$/],
      [atLimit.replace('"padding":""', `"padding":"${'x'.repeat(QUEUE_LIMIT_BYTES - atLimit.length)}"`), undefined],
    ]
    for (const [body] of bad) await queue.send(body)
    await settled(queue, { dead: bad.length })
    const dead = await queue.dead()
    for (const [body, reason] of bad) {
      const letter = dead.find((each) => each.body === body)
      expect(letter, body.slice(0, 100)).toBeDefined()
      if (reason) expect(letter?.reason, body.slice(0, 100)).toMatch(reason)
    }
    expect(await project.builds()).toHaveLength(1)
    expect(worker.lines('stderr').filter((line) => /is no job \(/.test(line))).toHaveLength(bad.length)
    await expectWorking(scene)
  })

  test.each(
    cells([
      ['version', { version: 2, news: true }, /has job version 2, newer than this worker: left alone/],
      ['kind', { kind: 'volume', base: 'al2023' }, /has job kind volume, newer than this worker: left alone/],
    ]),
  )('of a later %s: left alone, still there when the worker has gone', async (_, news, told) => {
    await using scene = await open()
    const { project, queue, worker } = scene
    await queue.send(JSON.stringify({ ...(await scene.job()), ...news }))
    await worker.waitFor('stderr', told)
    await expectWorking(scene)
    worker.kill('SIGTERM')
    expect((await worker.wait()).code).toBe(0)
    await settled(queue, { dead: 0, left: 1 })
    expect(await project.builds()).toHaveLength(2)
  })

  test('50 bodies of a fuzzer through a real worker', async () => {
    await using scene = await open()
    const { project, queue } = scene
    const bodies = [...mutations(JSON.stringify(await scene.job()), 200)].filter((body) => parseBody(body).status === 'invalid')
    for (const body of bodies.slice(0, 50)) await queue.send(body.replace(/[^\x20-\x7e]/g, '?') || '?')
    await settled(queue, { dead: 50 })
    expect(await project.builds()).toHaveLength(1)
    await expectWorking(scene)
  })
})

describe('jobs that no honest asker sent', () => {
  test('another repository: recorded as failed, in the dead letters, nothing of it is fetched', async () => {
    await using scene = await open()
    const { project, queue } = scene
    const job = await scene.job({ repository: 'ext::sh -c touch% /tmp/owned' })
    await queue.send(JSON.stringify(job))
    await settled(queue, { dead: 1 })
    expect(await queue.dead()).toEqual([{ body: JSON.stringify(job), reason: 'repository_not_allowed' }])
    expect((await project.builds()).find(({ build }) => build === job.build)).toMatchObject({
      status: 'failed',
      failure: { kind: 'user', code: 'repository_not_allowed', exit: 2, next: expect.stringContaining(project.dir) },
    })
    expect(existsSync('/tmp/owned')).toBe(false)
    await expectWorking(scene)
  })

  test.each(cells(['nobody published', 'another commit published']))(
    'a key that does not follow from its commit and that %s',
    async (whose) => {
      await using scene = await open()
      const { project, queue } = scene
      const published = (await scene.job()).key
      const commit = await project.repo.commit({ 'web/server.js': 'console.log("other")\n' })
      const job = await scene.job({ commit, key: whose === 'nobody published' ? 'a'.repeat(64) : published })
      await queue.send(JSON.stringify(job))
      await settled(queue, { dead: 1 })
      expect((await project.builds()).find(({ build }) => build === job.build)).toMatchObject({
        status: 'failed',
        failure: { code: 'key_mismatch', exit: 2 },
      })
      expect(await project.tagged(`sha-${commit}`)).toBeUndefined()
      await expectWorking(scene)
    },
  )
})

test('a job under the id of somebody else’s build: in the dead letters, and that record stays as it was', async () => {
  await using scene = await open()
  const { project, queue, worker } = scene
  const [honest] = await project.builds()
  const commit = await project.repo.commit({ 'README.md': 'another commit\n' })
  const body = JSON.stringify(await scene.job({ build: honest!.build, commit }))
  await queue.send(body)
  await settled(queue, { dead: 1 })
  expect(await queue.dead()).toEqual([{ body, reason: 'job_mismatch' }])
  expect(await project.builds()).toEqual([honest])
  expect(await project.tagged(`sha-${commit}`)).toBeUndefined()
  await worker.waitFor('stderr', new RegExp(`a job names build ${honest!.build}, which is another one's`))
})

describe('deliveries that a queue may make', () => {
  test('the same job twice: built once, both messages gone', async () => {
    await using scene = await open()
    const { project, queue } = scene
    const commit = await project.repo.commit({ 'web/server.js': `// ${Math.random()}\n` })
    const plan = JSON.parse((await project.bake(['image', '--dry-run', '--json'])).stdout) as { images: { key: string }[] }
    const body = JSON.stringify(await scene.job({ commit, key: plan.images[0]!.key }))
    await Promise.all([queue.send(body), queue.send(body)])
    await settled(queue, { dead: 0 })
    const [record, ...others] = await project.builds()
    // Its asker died before it wrote the record: the worker made it from the job.
    expect(record).toMatchObject({ build: (JSON.parse(body) as ImageJob).build, commit, status: 'built' })
    expect(others).toHaveLength(1)
    const claims = await project.ledger.list(keys.claims(record!.key))
    expect(claims).toHaveLength(2)
    expect(await project.tagged(`sha-${commit}`)).toBe(record!.digest)
    await queue.send(body)
    await settled(queue, { dead: 0 })
    expect(await project.ledger.list(keys.claims(record!.key))).toHaveLength(2)
    expect(existsSync(join(project.dir, '.bake/workers/local/held'))).toBe(true)
  })
})

test('10,000 bodies of a fuzzer: the parser throws for none, and takes none that it would not write', () => {
  const job = {
    ...{ version: 1, kind: 'image', build: newBuildId(), project: 'shop', repository: '/srv/shop', config: 'bake.yaml' },
    ...{ commit: 'a'.repeat(40), image: 'web', key: 'b'.repeat(64), branch: 'main', priority: 'normal', rebuild: false },
    pins: [{ reference: 'debian:12', digest: `sha256:${'c'.repeat(64)}` }],
  }
  const text = JSON.stringify(job)
  expect(parseBody(text).status).toBe('ok')
  const seen = { ok: 0, invalid: 0, 'unknown-version': 0, 'unknown-kind': 0 }
  for (const body of mutations(text, 10_000)) {
    const parsed = parseBody(body)
    seen[parsed.status]++
    if (parsed.status === 'ok') expect(JSON.parse(body), body).toEqual(parsed.job)
  }
  expect(seen.invalid).toBeGreaterThan(5_000)
  expect(seen['unknown-version']).toBeGreaterThan(0)
})
