import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildxRecord } from '../../src/io/buildx.ts'
import { spawnChild } from '../../src/io/child.ts'
import { killRecorded, processStart } from '../../src/io/child-record.ts'
import { waitFor } from '../../src/wait.ts'
import { BASE, openWorkshop, type Workshop } from './support/building.ts'

let shop: Workshop
beforeAll(async () => {
  shop = await openWorkshop()
})
afterAll(() => shop[Symbol.asyncDispose]())

/** A number of seconds to sleep that tells this build's process from all others. */
const unique = () => String(100_000 + Math.floor(Math.random() * 900_000))

/** Processes on this machine, the engine's included, whose arguments contain `text`. */
const running = (text: string): string[] =>
  readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text)
    } catch {
      return false
    }
  })

const noneLeft = (text: string, deadlineMs: number) =>
  waitFor(() => running(text).length === 0 || undefined, { what: `everything with ${text} to end`, deadlineMs, intervalMs: 20 })

const sleeping = async (seconds: string) =>
  shop.request(`FROM ${BASE}\nARG UNIQUE\nRUN echo started; sleep ${seconds}\n`, { push: ['localhost:1/x:1'] })

test('an aborted build ends at once, in the engine too, with the signal’s reason', async () => {
  const seconds = unique()
  const abort = new AbortController()
  const reason = new Error('lease lost')
  let aborted = 0
  const { error, events } = await shop.build(await sleeping(seconds), {
    signal: abort.signal,
    onEvent: (event) => {
      if (event.type !== 'line') return
      expect(running(seconds).length).toBeGreaterThanOrEqual(1)
      aborted = performance.now()
      abort.abort(reason)
    },
  })
  expect(error).toBe(reason)
  await noneLeft(seconds, 2000)
  await noneLeft(shop.dir, 10)
  expect(performance.now() - aborted).toBeLessThan(10_000)
  expect(events.at(-1)).toMatchObject({ type: 'step', state: 'canceled' })
})

test('nothing is started for a signal that is aborted already', async () => {
  const { error, events } = await shop.build(await sleeping('1'), { signal: AbortSignal.abort(new Error('too late')) })
  expect(error).toMatchObject({ message: 'too late' })
  expect(events).toEqual([])
})

test('an error thrown by the listener ends the build', async () => {
  const seconds = unique()
  const { error } = await shop.build(await sleeping(seconds), {
    onEvent: (event) => {
      if (event.type === 'line') throw new Error('the ledger is gone')
    },
  })
  expect(error).toMatchObject({ message: 'the ledger is gone' })
  await noneLeft(seconds, 2000)
})

/** A worker in a process of its own, which builds until it is killed. */
async function startWorker(seconds: string) {
  const request = await sleeping(seconds)
  const script = join(shop.dir, `worker-${seconds}.ts`)
  const builder = JSON.stringify(join(import.meta.dirname, '../../src/io/buildx.ts'))
  await writeFile(
    script,
    `import { BuildxBuilder } from ${builder}
const onEvent = (event) => { if (event.type === 'line') console.log(event.text) }
await new BuildxBuilder({ containerdStore: true, keep: false }).build(${JSON.stringify(request)}, { signal: new AbortController().signal, onEvent })
`,
  )
  const worker = spawnChild(process.execPath, [script], { stdout: 'pipe' })
  for await (const text of worker.stdout!) {
    expect(String(text)).toContain('started')
    return { worker, request }
  }
  throw new Error('the worker built nothing')
}

test('a worker killed with -9 takes buildx and the build in the engine with it', async () => {
  const seconds = unique()
  const { worker, request } = await startWorker(seconds)
  const { pid } = JSON.parse(readFileSync(buildxRecord(request.configDir), 'utf8'))
  expect(processStart(pid)).toBeDefined()
  process.kill(worker.pid, 'SIGKILL')
  await waitFor(() => processStart(pid) === undefined || undefined, { what: 'buildx to end', deadlineMs: 2000, intervalMs: 10 })
  await noneLeft(seconds, 3000)
  expect(await killRecorded(buildxRecord(request.configDir))).toBe(false)
  expect(existsSync(buildxRecord(request.configDir))).toBe(false)
})

test('a new worker kills what the slot of a stopped one still runs', async () => {
  const seconds = unique()
  const { worker, request } = await startWorker(seconds)
  process.kill(worker.pid, 'SIGSTOP')
  expect(await killRecorded(buildxRecord(request.configDir))).toBe(true)
  await noneLeft(`sleep ${seconds}`, 3000)
  process.kill(worker.pid, 'SIGKILL')
  await worker.exited
})

test('a log that nobody reads for seconds while the build ends fails nothing', async () => {
  // The worker is stopped before the flood and goes on long after: a pipe would be full, and BuildKit waits 3 s for its reader.
  const request = await shop.request(`FROM ${BASE}\nARG UNIQUE\nRUN echo started; sleep 0.5; seq 1 200000\n`, { push: [] })
  const script = join(shop.dir, 'stopped.ts')
  const io = JSON.stringify(join(import.meta.dirname, '../../src/io/buildx.ts'))
  await writeFile(
    script,
    `import { BuildxBuilder } from ${io}
let lines = 0
const onEvent = (event) => { if (event.type === 'line' && ++lines === 1) console.log('started') }
const request = { ...${JSON.stringify(request)}, push: ['localhost:1/never:1'] }
const error = await new BuildxBuilder({ containerdStore: true, keep: false }).build(request, { signal: new AbortController().signal, onEvent }).catch((error) => error)
console.log(JSON.stringify({ lines, code: error.code }))
`,
  )
  await using worker = spawnChild(process.execPath, [script], { stdout: 'pipe' })
  let output = ''
  for await (const text of worker.stdout!) {
    output += text
    if (output.trim() !== 'started') continue
    process.kill(worker.pid, 'SIGSTOP')
    setTimeout(() => execFileSync('kill', ['-CONT', String(worker.pid)]), 6000)
  }
  expect(JSON.parse(output.split('\n')[1]!)).toEqual({ lines: 200_001, code: 'registry_unreachable' })
})
