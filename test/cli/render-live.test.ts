import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { liveRenderer } from '../../src/cli/render-live.ts'

const terminal = () => Object.assign(new PassThrough(), { columns: 80, rows: 24, isTTY: true })

/** What stays on a terminal of a base whose phase `finish` ended, or didn't. */
async function shown(...states: ('started' | 'done')[]): Promise<string> {
  const stream = terminal()
  const renderer = liveRenderer(stream as unknown as NodeJS.WriteStream)
  for (const state of states)
    renderer.emit({ type: 'machine', event: { type: 'phase', phase: 'finish', state, t: Date.now(), seconds: 1 } })
  await sleep(150)
  renderer.close()
  return String(stream.read())
}

test('a machine’s phases that all ended leave no line behind; one that runs is told', async () => {
  expect(await shown('started')).toContain('still finish')
  const ended = await shown('started', 'done')
  expect(ended).toContain('finish')
  expect(ended).not.toContain('still')
})
