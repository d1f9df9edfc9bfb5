import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { chooseAccelerator } from '../../src/io/qemu-accelerator.ts'
import { waitFor } from '../../src/wait.ts'
import { runBake, startBake } from '../support/bake.ts'
import { baseDisk } from '../support/base-disk.ts'
import { bootsMachines } from '../support/boots-machines.ts'

/** Software emulation on a busy processor. */
const BOOT_MS = 600_000

let dir: string
let env: Record<string, string>
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-run-'))
  env = { BAKE_STATE_DIR: join(dir, 'state'), BAKE_ACCELERATOR: 'tcg' }
})
afterAll(() => rm(dir, { recursive: true, force: true }))

describe.skipIf(!bootsMachines)('bake run', () => {
  test("gives root's shell on a disk without a key of anybody's, and leaves the disk as it was", {
    timeout: BOOT_MS,
  }, async () => {
    const before = await baseDisk()
    const input =
      'echo "kernel $(uname -r)"; until systemctl is-active --quiet docker; do sleep 1; done; systemctl is-active docker; touch /was-here; exit\n'
    const { code, stdout, stderr } = await runBake(['run', before.disk, '--shell'], { cwd: dir, env, input })
    // A login shell may greet first.
    expect({ code, stdout }, stderr).toEqual({
      code: 0,
      stdout: expect.stringMatching(/(?:^|\n)kernel \d.*-cloud-amd64\nactive\n$/),
    })
    expect(stderr).toMatch(/software emulation/)
    expect((await baseDisk()).found).toBe(true)
    expect(await readdir(join(dir, 'state', 'bakes'))).toEqual([])
  })

  test('leads a port inside; the first Ctrl-C presses the power button', { timeout: BOOT_MS }, async () => {
    const { disk } = await baseDisk()
    await using running = startBake(['run', disk, '--port', '0:22'], { cwd: dir, env })
    const told = await running.waitFor('stderr', /127\.0\.0\.1:\d+ leads to the machine's port 22/)
    await running.waitFor('stderr', /login:/, BOOT_MS / 2)
    // The prompt may come before the server.
    const said = await waitFor(() => greeting(Number(/:(\d+) /.exec(told)![1])).catch(() => undefined), {
      what: 'the SSH server',
      deadlineMs: 120_000,
      intervalMs: 1000,
    })
    expect(said).toMatch(/^SSH-2\.0-OpenSSH/)
    running.kill('SIGINT')
    await running.waitFor('stderr', /reboot: Power down/, 120_000)
    expect(await running.wait()).toMatchObject({ code: 0 })
    expect(await readdir(join(dir, 'state', 'bakes'))).toEqual([])
  })

  test('a /dev/kvm that boots nothing is found out once', { timeout: 120_000 }, async () => {
    const { disk } = await baseDisk()
    const ask = () =>
      chooseAccelerator({
        disk: { path: disk, format: 'raw' },
        ...{ architecture: 'amd64', firmware: 'bios', kernel: 'k', stateDir: join(dir, 'state'), dir, env: {} },
      })
    const first = await ask()
    const began = performance.now()
    expect(await ask()).toEqual(first)
    expect(performance.now() - began).toBeLessThan(1000)
    if (first.accelerator === 'tcg') expect(first.why).toMatch(/KVM is here, but boots no kernel|no \/dev\/kvm/)
  })
})

test('a release or disk that is not there', async () => {
  const missing = await runBake(['run', './nowhere.qcow2'], { cwd: dir, env })
  expect(missing).toMatchObject({ code: 2, stderr: expect.stringMatching(/nowhere\.qcow2 does not exist/) })
  const noProject = await runBake(['run', 'v2'], { cwd: dir, env })
  expect(noProject).toMatchObject({ code: 2, stderr: expect.stringMatching(/there is no bake\.yaml here to know releases by/) })
  const port = await runBake(['run', './nowhere.qcow2', '--port', '80'], { cwd: dir, env })
  expect(port).toMatchObject({ code: 2, stderr: expect.stringMatching(/--port 80 is not H:G/) })
})

/** What the server behind a port says first. */
async function greeting(port: number): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  try {
    return String((await once(socket, 'data'))[0])
  } finally {
    socket.destroy()
  }
}
