import { execFile } from 'node:child_process'
import { globSync } from 'node:fs'
import { access, chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** npm fetches every dependency from its registry or its cache. */
const INSTALL_MS = 300_000

let home: string
/** The one directory of PATH besides those with a node: what a plain sh needs to follow a link. */
let tools: string

beforeAll(async () => {
  await access(join(root, 'oclif.manifest.json')).catch(() => {
    throw new Error('this tests what is shipped: npm run build first')
  })
  home = await mkdtemp(join(tmpdir(), 'bake-package-'))
  tools = await directoryWith('tools', 'readlink', '/usr/bin/readlink')
  // Without its script: a build now would pull dist from under the tests that run beside this one.
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', home], { cwd: root })
  const tarball = (await readdir(home)).find((name) => name.endsWith('.tgz'))!
  await run('npm', ['install', '--global', '--prefix', join(home, 'global'), '--no-audit', '--no-fund', join(home, tarball)])
}, INSTALL_MS)

afterAll(() => rm(home, { recursive: true, force: true }))

describe('the published package, installed globally', () => {
  test('runs on a node 24 of PATH', async () => {
    const node = await directoryWith('node24', 'node', process.execPath)
    expect(await bake(['--version'], [node])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^bakehouse\/\S+ linux-\S+ node-v2[4-9]/),
      stderr: '',
    })
  })

  test('has every command, loaded by the manifest', async () => {
    const node = await directoryWith('node24-too', 'node', process.execPath)
    for (const file of globSync('**/*.ts', { cwd: join(root, 'src/commands') })) {
      const command = file.replace(/\.ts$/, '').split('/')
      expect(await bake([...command, '--help'], [node])).toMatchObject({
        code: 0,
        stderr: '',
        stdout: expect.stringContaining('USAGE'),
      })
    }
    expect(await bake(['imgae'], [node])).toMatchObject({ code: 2, stderr: expect.stringContaining('image') })
  })

  test('carries no source, test or pinned Node', async () => {
    const installed = await readdir(join(home, 'global/lib/node_modules/bakehouse'))
    expect(installed).toEqual(expect.arrayContaining(['bin', 'dist', 'oclif.manifest.json', 'package.json']))
    for (const name of ['src', 'test', 'bench', 'tsconfig.json']) expect(installed).not.toContain(name)
    expect(await readdir(join(home, 'global/lib/node_modules/bakehouse/bin'))).toEqual(['bake', 'run.js'])
  })

  test('passes over an older node for a newer one further on', async () => {
    const newer = await directoryWith('newer', 'node', process.execPath)
    expect(await bake(['--version'], [await oldNode(), newer])).toMatchObject({ code: 0, stderr: '' })
  })

  test('refuses an older node with the fix', async () => {
    const { code, stdout, stderr } = await bake(['--version'], [await oldNode()])
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' })
    expect(stderr).toMatch(/^error: bake needs Node 24 or newer; \S+\/node is v18\.20\.4\nnext: .*Node 24/)
  })

  test('refuses a machine without node with the fix', async () => {
    const { code, stderr } = await bake(['--version'], [])
    expect(code).toBe(4)
    expect(stderr).toMatch(/there is no node on PATH\nnext: /)
  })
})

const bake = (args: string[], path: string[]) =>
  run(join(home, 'global/bin/bake'), args, { env: { PATH: [...path, tools].join(':'), HOME: home } })

interface Ended {
  code: number
  stdout: string
  stderr: string
}

/** Rejects when an npm command fails; a `bake` that ends with another code than 0 is a result. */
function run(command: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<Ended> {
  return new Promise((resolve, reject) =>
    execFile(command, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code
      if (typeof code !== 'number' || (command === 'npm' && code !== 0)) reject(new Error(stderr, { cause: error }))
      else resolve({ code, stdout, stderr })
    }),
  )
}

async function directoryWith(directory: string, name: string, target: string): Promise<string> {
  const path = join(home, directory)
  await mkdir(path)
  await symlink(target, join(path, name))
  return path
}

/** A directory whose `node` says that it is version 18. */
async function oldNode(): Promise<string> {
  const path = await mkdtemp(join(home, 'old-'))
  await writeFile(join(path, 'node'), '#!/bin/sh\n[ "$1" = --version ] && echo v18.20.4\n')
  await chmod(join(path, 'node'), 0o755)
  return path
}
