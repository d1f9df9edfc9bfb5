import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { spawnChild } from '../../src/io/child.ts'
import { forgetChild, isAlive, killRecorded, processStart, recordChild } from '../../src/io/child-record.ts'
import { waitFor } from '../../src/wait.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-child-'))
})
afterAll(() => rm(dir, { recursive: true }))

const gone = (pid: number, what: string) =>
  waitFor(() => processStart(pid) === undefined || undefined, { what: `${what} to end`, deadlineMs: 3000, intervalMs: 10 })

/** A shell with a child of its own, both deaf to SIGTERM; the pid of the inner one. */
const STUBBORN = `trap '' TERM; sleep 1000 & echo $!; wait`
async function startStubborn(options: { signal?: AbortSignal; graceMs?: number } = {}) {
  const child = spawnChild('sh', ['-c', STUBBORN], { stdout: 'pipe', ...options })
  for await (const line of child.stdout!) return { child, inner: Number(String(line)) }
  throw new Error('it said nothing')
}

describe('spawnChild', () => {
  test('gives output and exit code, and hands over stdin', async () => {
    await using child = spawnChild('sh', ['-c', 'cat; echo oops >&2; exit 3'], { stdin: 'hello', stdout: 'pipe', stderr: 'pipe' })
    expect(await Promise.all([text(child.stdout!), text(child.stderr!), child.exited])).toEqual([
      'hello',
      'oops\n',
      { code: 3, signal: null },
    ])
  })

  test('throws ENOENT for a command that does not exist', () => {
    expect(() => spawnChild('no-such-command', [])).toThrow(expect.objectContaining({ code: 'ENOENT' }))
    expect(() => spawnChild('/no/such/command', [])).toThrow(expect.objectContaining({ code: 'ENOENT' }))
  })

  test('tells why it could not be started', async () => {
    await using child = spawnChild('true', [], { cwd: join(dir, 'missing') })
    expect((await child.exited).error).toMatchObject({ code: 'ENOENT' })
  })

  test('passes an argument that looks like an option to the command only', async () => {
    await using child = spawnChild('printf', ['%s', '--pdeathsig'], { stdout: 'pipe' })
    expect(await text(child.stdout!)).toBe('--pdeathsig')
  })

  test('starts nothing when aborted already', () => {
    expect(() => spawnChild('true', [], { signal: AbortSignal.abort(new Error('no more')) })).toThrow('no more')
  })

  test('ends the whole tree when aborted, also what ignores SIGTERM', async () => {
    const abort = new AbortController()
    const { child, inner } = await startStubborn({ signal: abort.signal, graceMs: 100 })
    abort.abort()
    expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' })
    await gone(inner, 'the child of the child')
  })

  test('leaves nothing behind when its process is killed right after starting it', async () => {
    const script = join(dir, 'killed-early.ts')
    const mark = `987654.${process.pid}`
    const child = join(import.meta.dirname, '../../src/io/child.ts')
    writeFileSync(
      script,
      `import { spawnChild } from ${JSON.stringify(child)}\nspawnChild('sleep', ['${mark}'])\nprocess.kill(process.pid, 'SIGKILL')\n`,
    )
    for (let round = 0; round < 5; round++) spawnSync(process.execPath, [script])
    const left = () => execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).includes(mark)
    await waitFor(() => !left() || undefined, { what: 'orphans to end', deadlineMs: 3000, intervalMs: 50 })
  })

  test('ends the tree on dispose', async () => {
    const { child, inner } = await startStubborn({ graceMs: 50 })
    await child[Symbol.asyncDispose]()
    await gone(inner, 'the child of the child')
  })

  test.runIf(process.platform === 'linux')('the child dies with its parent when that is killed with -9', async () => {
    const script = join(dir, 'parent.ts')
    const child = JSON.stringify(join(import.meta.dirname, '../../src/io/child.ts'))
    writeFileSync(script, `import { spawnChild } from ${child}\nconsole.log(spawnChild('sleep', ['1000']).pid)\n`)
    await using parent = spawnChild(process.execPath, [script], { stdout: 'pipe' })
    for await (const line of parent.stdout!) {
      const pid = Number(String(line))
      expect(processStart(pid)).toBeDefined()
      process.kill(parent.pid, 'SIGKILL')
      await gone(pid, 'the child')
    }
  })

  test.runIf(process.platform === 'linux')('so does all that the child started, when that is asked for', async () => {
    const script = join(dir, 'grandparent.ts')
    const child = JSON.stringify(join(import.meta.dirname, '../../src/io/child.ts'))
    const silent = JSON.stringify('sleep 1000 & echo $!; exec sleep 1000')
    writeFileSync(
      script,
      `import { spawnChild } from ${child}\nspawnChild('sh', ['-c', ${silent}], { stdout: 'inherit', group: true })\n`,
    )
    await using parent = spawnChild(process.execPath, [script], { stdout: 'pipe' })
    for await (const line of parent.stdout!) {
      const pid = Number(String(line))
      expect(processStart(pid)).toBeDefined()
      process.kill(parent.pid, 'SIGKILL')
      await gone(pid, 'the child of the child')
      break
    }
  })

  test.each<[string, string, { code: number | null; signal: string | null }]>([
    ['an exit code', 'exit 3', { code: 3, signal: null }],
    ['a signal', 'kill -KILL $$', { code: null, signal: 'SIGKILL' }],
    ['a signal that it waits with', "trap 'exit 7' TERM; kill -TERM 0; sleep 5", { code: 7, signal: null }],
  ])('then it ends with %s as it would have alone', async (_, script, exit) => {
    await using child = spawnChild('sh', ['-c', script], { group: true })
    expect(await child.exited).toEqual(exit)
  })
})

describe('pid files', () => {
  test('killRecorded kills the recorded tree and forgets it', async () => {
    const file = join(dir, 'slot-1.json')
    const { child, inner } = await startStubborn()
    recordChild(file, child.pid)
    expect(await killRecorded(file)).toBe(true)
    expect((await child.exited).signal).toBe('SIGKILL')
    await gone(inner, 'the child of the child')
    expect(existsSync(file)).toBe(false)
    expect(await killRecorded(file)).toBe(false)
  })

  test('killRecorded leaves a process alone that has the number but not the start time', async () => {
    const file = join(dir, 'slot-2.json')
    await using child = spawnChild('sleep', ['1000'])
    recordChild(file, child.pid)
    writeFileSync(file, readFileSync(file, 'utf8').replace('"start":"', '"start":"1'))
    expect(await killRecorded(file)).toBe(false)
    expect(processStart(child.pid)).toBeDefined()
  })

  test('killRecorded takes a damaged file for none', async () => {
    const file = join(dir, 'slot-3.json')
    for (const damaged of ['', '{', 'null', '{"pid":-1}', '{"pid":"1","start":"1"}', '{"pid":-1,"start":"1"}']) {
      writeFileSync(file, damaged)
      expect(await killRecorded(file)).toBe(false)
    }
    forgetChild(file)
  })

  test('a process that has ended but was not waited for is not alive', async () => {
    const child = spawnChild('true', [])
    const start = processStart(child.pid)
    await child.exited
    if (start === undefined) return
    // The kernel may show it for a moment after its parent was told.
    await waitFor(() => !isAlive(child.pid, start) || undefined, { what: 'its end', deadlineMs: 2_000, intervalMs: 5 })
  })
})
