import { execFile } from 'node:child_process'
import { chmod, cp, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { toolEnvironment } from '../../../src/io/tool.ts'
import { MIB, makeDisk } from '../../support/disk-maker.ts'
import { tinyRoot } from '../../support/tiny-root.ts'

const run = promisify(execFile)
const env = toolEnvironment()
const PROGRAMS = ['env', 'bash', 'cat', 'dd', 'grep', 'mkdir', 'mknod', 'rm', 'sleep', 'sync', 'touch']
/** What is looked for of an engine, and what it says when it is up. */
export const ENGINE = {
  'usr/bin/docker': '#!/bin/sh\n',
  'usr/bin/dockerd': '#!/bin/sh\necho "API listen on /run/docker.sock" >&2; exec sleep 1000\n',
}

/** A root with bash and `env`, and more files, on the first partition of a small disk, `base.raw` in `dir`. */
export async function systemDisk(dir: string, files: Record<string, string>): Promise<string> {
  const root = join(dir, 'files')
  for (const [path, content] of Object.entries(await tinyRoot('.', PROGRAMS))) {
    const { executable } = content as { executable: Buffer }
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), executable, { mode: 0o755 })
  }
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
    if (text.startsWith('#!')) await chmod(join(root, path), 0o755)
  }
  await mkdir(join(root, 'usr/bin'), { recursive: true })
  await cp(join(root, 'bin/env'), join(root, 'usr/bin/env'))
  for (const name of ['proc', 'sys', 'dev', 'run', 'tmp', 'etc']) await mkdir(join(root, name), { recursive: true })
  const sizeMib = 60
  const disk = await makeDisk(
    join(dir, 'base.raw'),
    {
      scheme: 'mbr',
      bootCode: true,
      partitions: [{ type: 0x83, active: true, startMib: 1, sizeMib }],
    },
    sizeMib + 4,
  )
  await run('mkfs.ext4', ['-q', '-F', '-d', root, '-E', `offset=${MIB}`, disk, `${sizeMib}m`], { env })
  return disk
}
