import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { inspectDisk } from '../../src/io/base-disk.ts'
import { bootMachine } from '../../src/io/qemu.ts'
import { toolEnvironment } from '../../src/io/tool.ts'
import { waitFor } from '../../src/wait.ts'
import { runBake, startBake } from '../support/bake.ts'
import { baseDisk } from '../support/base-disk.ts'
import { bootsMachines } from '../support/boots-machines.ts'
import { editDisk } from '../support/disk-edit.ts'

const run = promisify(execFile)
/** Software emulation on a busy processor. */
const BOOT_MS = 400_000

/** A unit that tells on the console when Docker answers. */
const SAYS_DOCKER = `
cat >etc/systemd/system/says-docker.service <<'UNIT'
[Unit]
After=docker.service
Requires=docker.service
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/bash -c 'printf "\\ndocker says %%s, interfaces %%s\\n" "$(docker version --format "{{.Server.Version}}")" "$(cd /sys/class/net && echo *)"'
UNIT
mkdir -p etc/systemd/system/multi-user.target.wants
ln -s ../says-docker.service etc/systemd/system/multi-user.target.wants/`

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-base-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

/** Loop devices and mounts of files below `at`, in any namespace that this one sees, and what still works there. */
async function traces(at: string): Promise<string[]> {
  const { stdout: loops } = await run('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE'], {
    env: toolEnvironment(),
  })
  const mounts = await readFile('/proc/mounts', 'utf8')
  const { stdout: processes } = await run('ps', ['-eo', 'pid,args'])
  return `${loops}\n${mounts}\n${processes}`.split('\n').filter((line) => line.includes(at))
}

describe.skipIf(!bootsMachines)('bake base', () => {
  test('makes a disk that a second call finds, and that tells what it is', { timeout: 600_000 }, async () => {
    const made = await baseDisk()
    const again = await runBake(['base', '--out', made.disk, '--json'])
    expect(again, again.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(again.stdout)).toMatchObject({
      version: 1,
      disk: made.disk,
      found: true,
      inputs: made.inputs,
      architecture: 'amd64',
    })
    expect((await runBake(['base', '--out', made.disk])).stdout).toBe(`${made.disk}\n`)
    expect(await inspectDisk(made.disk, join(dir, 'state'))).toMatchObject({
      format: 'raw',
      firmware: 'bios',
      architecture: 'amd64',
      virtualBytes: 4 * 1024 ** 3,
    })
    expect((await readdir(join(made.disk, '..'))).sort()).toEqual([basename(made.disk), `${basename(made.disk)}.json`])
  })

  test('its disk boots with no network card to a running Docker, and powers off', { timeout: BOOT_MS }, async () => {
    const { disk } = await baseDisk()
    const edited = join(dir, 'says-docker.raw')
    await editDisk(disk, edited, SAYS_DOCKER)
    const lines: string[] = []
    await using machine = await bootMachine({
      disk: { path: edited, format: 'raw' },
      ...{ architecture: 'amd64', firmware: 'bios', network: 'none', memoryMiB: 1024, cpus: 2, accelerator: 'tcg', dir },
      console: (line) => lines.push(line),
    })
    const said = () => lines.find((line) => line.includes('docker says'))
    await waitFor(said, { what: 'Docker', deadlineMs: BOOT_MS / 2, intervalMs: 100 }).catch((error) => {
      throw new Error(lines.join('\n'), { cause: error })
    })
    expect(said()).toMatch(/docker says 20\.10\.\d+.*, interfaces docker0 lo$/)
    await machine.powerDown()
    expect(lines.some((line) => /reboot: Power down/.test(line))).toBe(true)
    expect(lines.filter((line) => /FAILED|Failed to start/.test(line))).toEqual([])
    expect((await readdir(dir)).filter((name) => name.startsWith('machine-'))).toEqual([])
  })

  test('killed with SIGKILL leaves no mount, loop device or process, and the next call cleans up', {
    timeout: 120_000,
  }, async () => {
    const at = join(dir, 'killed')
    await mkdir(at)
    const out = join(at, 'base.raw')
    await using first = startBake(['base', '--out', out], { cwd: dir })
    await first.waitFor('stderr', /packages/)
    expect(await traces(`${out}.making`)).not.toEqual([])
    first.kill('SIGKILL')
    await first.wait()
    await waitFor(async () => ((await traces(`${out}.making`)).length === 0 ? true : undefined), {
      what: 'the killed run to be gone',
      deadlineMs: 5_000,
      intervalMs: 50,
    })
    expect(await readdir(`${out}.making`)).not.toEqual([])
    await using second = startBake(['base', '--out', out], { cwd: dir })
    await second.waitFor('stderr', /packages/)
    second.kill('SIGINT')
    expect(await second.wait()).toMatchObject({ code: 130 })
    expect(await traces(out)).toEqual([])
    expect(await readdir(at)).toEqual([])
  })

  test('leaves a disk alone that it did not make', async () => {
    const out = join(dir, 'mine.raw')
    await writeFile(out, 'mine')
    const { code, stderr } = await runBake(['base', '--out', out])
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringMatching(/base_exists|isn't as bake base made it/) })
    expect(await readFile(out, 'utf8')).toBe('mine')
  })

  test('says that it needs root, and refuses a size that is none', async () => {
    const nobody = await runBake(['base', '--out', join(tmpdir(), 'x', 'base.raw')], {
      prefix: ['setpriv', '--reuid=65534', '--clear-groups', '--'],
    })
    expect(nobody).toMatchObject({ code: 4, stderr: expect.stringMatching(/takes root[\s\S]*sudo bake base/) })
    expect(await runBake(['base', '--size', 'huge'])).toMatchObject({ code: 2, stderr: expect.stringMatching(/--size huge/) })
    expect(await runBake(['base', '--size', '100MB'])).toMatchObject({ code: 2, stderr: expect.stringMatching(/too small/) })
  })
})
