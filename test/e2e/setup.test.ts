import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

const SETUP = fileURLToPath(new URL('../../bin/setup', import.meta.url))
/** What bin/setup would change. */
const WATCHED = [
  '/etc/docker',
  '/etc/apt/sources.list.d',
  '/etc/apt/preferences.d',
  '/var/lib/dpkg/status',
  '/var/run/docker.pid',
]

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'bake-setup-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

describe('bin/setup --dry-run', () => {
  test('finds this machine ready, changes nothing, twice', async () => {
    const before = await modified()
    const first = await setup(['--dry-run'])
    expect(first, first.stderr).toMatchObject({ code: 0, stderr: '' })
    for (const part of ['git', 'registry', 'buildx', 'Docker Engine', 'dependencies', 'localhost/bakehouse/base:bookworm'])
      expect(first.stdout).toMatch(new RegExp(`^  fine  ${part}`, 'm'))
    // The build may be older than the source under work; nothing else may be missing where tests run.
    expect(first.stdout).toMatch(/\n(nothing to do|would do:\n {2}npm run build)\n$/)
    expect(await setup(['--dry-run'])).toEqual(first)
    expect(await modified()).toEqual(before)
  })

  test('leaves an engine with other settings alone and says what is lost', async () => {
    await fake(
      'docker',
      'case "$1 $2" in "version --format") echo 20.10.24 ;; "info --format") echo "[]" ;; *) exec /usr/bin/docker "$@" ;; esac',
    )
    const { code, stdout } = await setup(['--dry-run'])
    expect(code).toBe(0)
    expect(stdout).toContain('it has no containerd image store: no shared cache')
    if (!existsSync('/var/lib/bakehouse/engine')) {
      expect(stdout).toContain('left as it is; bin/setup --yes gives it the containerd image store')
      expect(stdout).not.toContain('and restart it (needs root)')
    }
    const agreed = await setup(['--dry-run', '--yes'])
    expect(agreed.stdout).toMatch(/would do:\n(.*\n)* {2}give Docker Engine the containerd image store.*, and restart it/)
  })

  test('plans an engine for a machine without one, before what needs it', async () => {
    await fake('docker', 'exit 1')
    const { stdout } = await setup(['--dry-run'])
    expect(stdout).toMatch(/ {2}install packages \(needs root\): .*docker-buildx.*\n {2}start Docker Engine/)
  })

  test('brings the AWS emulator with --tests only', async () => {
    const without = { PYTHON: join(directory, 'python-without-moto') }
    await fake('python-without-moto', 'exit 1')
    const { stdout } = await setup(['--dry-run', '--tests'], without)
    expect(stdout).toMatch(/ {2}install packages \(needs root\): .*python3-moto python3-flask-cors/)
    expect((await setup(['--dry-run'], without)).stdout).not.toContain('moto')
    // Where this runs, the tests of AWS run.
    expect((await setup(['--dry-run', '--tests'])).stdout).toMatch(/^ {2}fine {2}moto 5\./m)
  })

  test('brings the tools of machine images with --machines, and with --tests', async () => {
    // Another program's, as Red Hat's cracklib has one.
    await fake('packer', 'exit 1')
    for (const flag of ['--machines', '--tests'])
      expect((await setup(['--dry-run', flag])).stdout).toMatch(/ {2}install packages \(needs root\): .*packer/)
    expect((await setup(['--dry-run'])).stdout).not.toContain('packer')
    await fake('packer', 'echo "Packer v1.5.6"')
    expect((await setup(['--dry-run', '--machines'])).stdout).toContain('packer 1.5.6 is too old: 1.6 is the first that works')
  })

  test('says what to install by hand where it can install nothing', async () => {
    await fake('docker', 'exit 1')
    await writeFile(join(directory, 'os-release'), 'ID=fedora\nPRETTY_NAME="Fedora Linux 42"\n')
    const { code, stderr } = await setup(['--dry-run'], { BAKE_OS_RELEASE: join(directory, 'os-release') })
    expect(code).toBe(4)
    expect(stderr).toMatch(/this is Fedora Linux 42\nnext: install by hand: git; .*buildx/)
  })
})

test('bin/setup refuses an unknown flag', async () => {
  expect(await setup(['--dryrun'])).toMatchObject({ code: 2, stderr: expect.stringContaining('unknown flag --dryrun') })
})

/** Puts a program of this name in front of the real one. */
async function fake(name: string, body: string): Promise<void> {
  await writeFile(join(directory, name), `#!/bin/sh\n${body}\n`)
  await chmod(join(directory, name), 0o755)
}

function setup(args: string[], env: NodeJS.ProcessEnv = {}): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const options = { env: { ...process.env, PATH: `${directory}:${process.env.PATH}`, DOCKER_HOST: undefined, ...env } }
    const child = execFile(SETUP, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code
      if (typeof code === 'number') resolve({ code, stdout, stderr })
      else reject(error)
    })
    child.stdin?.end()
  })
}

const modified = () => Promise.all(WATCHED.map(async (path) => [path, (await stat(path).catch(() => undefined))?.mtimeMs]))
