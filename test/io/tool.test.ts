import { expect, test } from 'vitest'
import { tool } from '../../src/io/tool.ts'

test('gives what a tool says, and hands it its input', async () => {
  expect(await tool('cat', [], { stdin: 'hello\n' })).toBe('hello\n')
})

test('says which package a missing tool comes with', async () => {
  const nowhere = { env: { PATH: '/nowhere' } }
  await expect(tool('mcopy', [], nowhere)).rejects.toMatchObject({
    code: 'tool_missing',
    exit: 4,
    message: 'mcopy is not installed',
    next: expect.stringContaining('package mtools'),
  })
})

test('fails with the end of what the tool said', async () => {
  const script = 'for i in $(seq 1000); do echo "line $i" >&2; done; exit 7'
  await expect(tool('sh', ['-c', script])).rejects.toMatchObject({
    code: 'tool_failed',
    exit: 3,
    message: expect.stringMatching(/^sh failed \(exit code 7\): [\s\S]{1,600}line 1000$/),
  })
})

test('ends the tool when aborted', async () => {
  const abort = new AbortController()
  const running = tool('sleep', ['100'], { signal: abort.signal })
  setTimeout(() => abort.abort(new Error('enough')), 50)
  await expect(running).rejects.toThrow('enough')
})
