import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { beforeEach, expect, test } from 'vitest'
import { migrateLine } from '../../src/fleet/migrate-line.ts'

/** The line is run by a real sh; docker only tells what it was asked for. */
const DOCKER = `#!/bin/bash
case "$1 $3" in
  'inspect {{.Config.Image}}') echo shop/web@sha256:1 ;;
  'inspect {{.Config.User}}') ;;
  inspect*) printf '%s\\0' A=1 $'B=two\\nlines' 'C={{x}} "$y"' ;;
  *)
    for word in "$@"; do printf '<%s>' "$word"; case $word in --env-file=*) variables=$(<"\${word#*=}") ;; esac; done >>"$DIR/runs"
    printf '%s\\n' "$variables" "B=$B" >"$DIR/variables"
    sleep 0.5
    [ ! -e "$DIR/long" ] || seq -f 'line %g' 5000
    echo changed
    exit "$(cat "$DIR/status" 2>/dev/null || echo 0)"
    ;;
esac
`
let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-migrate-'))
  await mkdir(join(dir, 'bin'))
  await writeFile(join(dir, 'bin/docker'), DOCKER)
  await chmod(join(dir, 'bin/docker'), 0o755)
  return () => rm(dir, { recursive: true })
})

const migrate = { service: 'web', command: ['npm', 'run', "it's {{all}}"], lock: 'a1' }
async function run(lock = 'a1'): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const env = { PATH: `${join(dir, 'bin')}:${process.env.PATH}`, DIR: dir, BAKE_KEPT: join(dir, 'kept'), BAKE_RUN: dir }
  const child = spawn('sh', ['-c', migrateLine({ ...migrate, lock })], { env })
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { code, stdout, stderr }
}
const runs = async () => (await readFile(join(dir, 'runs'), 'utf8').catch(() => '')).split('<run><--rm>').length - 1

test('runs the image of the container with its variables, and leaves none of them', async () => {
  expect(await run()).toMatchObject({ code: 0, stdout: 'changed\n' })
  const asked = (await readFile(join(dir, 'runs'), 'utf8')).replace(/--env-file=[^>]*/, '--env-file=F')
  expect(asked).toBe(
    "<run><--rm><--pull=never><--name=bake-migrate><--volumes-from=bake-web><--env-file=F><--env=B><shop/web@sha256:1><npm><run><it's {{all}}>",
  )
  expect(await readFile(join(dir, 'variables'), 'utf8')).toBe('A=1\nC={{x}} "$y"\nB=two\nlines\n')
  expect((await run('a2')).code).toBe(0)
  expect(await runs()).toBe(2)
})

test('Systems Manager finds no parameter of its own in it', () => {
  expect(migrateLine({ ...migrate, command: ['{{{ssm:x}}}'] })).not.toContain('{{')
})

test('runs once: who comes later, or at the same time, ends as the first', async () => {
  await writeFile(join(dir, 'status'), '3')
  expect(await Promise.all([run(), run()])).toMatchObject([
    { code: 3, stdout: 'changed\n' },
    { code: 3, stdout: 'changed\n' },
  ])
  expect(await run()).toMatchObject({ code: 3, stdout: 'changed\n' })
  expect(await runs()).toBe(1)
})

test('of much output the last lines are told as errors too: Systems Manager keeps only the first of each', async () => {
  await writeFile(join(dir, 'long'), '')
  const last = expect.stringMatching(/line 4997\nline 4998\nline 4999\nline 5000\nchanged\n$/)
  expect(await run()).toMatchObject({ code: 0, stderr: last })
  expect(await run()).toMatchObject({ code: 0, stderr: last })
})

test('who comes after one that left no word does not run it', async () => {
  await mkdir(join(dir, 'kept/migrate'), { recursive: true })
  await writeFile(join(dir, 'kept/migrate/a1.begun'), '')
  expect(await run()).toMatchObject({ code: 76, stderr: expect.stringContaining('left no word') })
  expect(await runs()).toBe(0)
})
