import { appendFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { followFile } from '../../src/io/follow-file.ts'
import { waitFor } from '../../src/wait.ts'

test('reads what is appended as it comes, and all of it at the end', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bake-follow-'))
  try {
    const path = join(dir, 'console')
    let text = ''
    const file = await followFile(path, (data) => {
      text += Buffer.from(data).toString()
    })
    await appendFile(path, 'one\n')
    await waitFor(() => (text === 'one\n' ? true : undefined), { what: 'the first line', deadlineMs: 2000, intervalMs: 5 })
    await appendFile(path, 'x'.repeat(200_000))
    await file.end()
    expect(text).toHaveLength(200_004)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})
