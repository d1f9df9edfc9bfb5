import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { machineKit, renderMachine } from '../../src/ami/render.ts'
import { HOSTILE, plan, shop, standIns } from './plan.ts'

let dir: string
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'bake-scripts-'))
})
afterAll(() => rmSync(dir, { recursive: true }))

test.each([
  ['as usual', undefined],
  ['hostile', HOSTILE],
])('shellcheck has nothing to say about any script: values %s', async (_, words) => {
  const setup = [{ path: 'ops/setup.sh', text: `echo ${words?.join(' ')}` }]
  const rendered = await renderMachine(plan(shop(words), { standIns, setup }), new Map())
  const paths = machineKit(rendered).flatMap(({ path, text, mode }, index) => {
    if (mode !== 0o755 || !/^#!\/bin\//.test(text)) return []
    const file = join(dir, `${index}-${path.replaceAll('/', '-')}`)
    writeFileSync(file, text)
    return [file]
  })
  expect(paths.length).toBeGreaterThan(12)
  // Hostile words look like mistakes: SC2016 is a `$` in single quotes, SC1003 a backslash before one.
  const except = words ? ['--exclude=SC2016,SC1003'] : []
  const { stdout } = spawnSync('shellcheck', [...except, '--', ...paths], { encoding: 'utf8' })
  expect(stdout).toBe('')
})
