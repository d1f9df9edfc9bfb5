import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { stopHost } from '../../../src/io/host/client.ts'
import { SqsQueue } from '../../../src/io/queue-sqs.ts'
import { gone, hostProject } from '../../support/host.ts'

/** Mounting takes CAP_SYS_ADMIN; the disk is 2 MiB in memory. */
async function smallDisk(): Promise<({ path: string } & AsyncDisposable) | undefined> {
  const path = await mkdtemp(join(tmpdir(), 'bake-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'bake-test', path], { stdio: 'ignore' })
  } catch {
    await rm(path, { recursive: true })
    return undefined
  }
  return {
    path,
    async [Symbol.asyncDispose]() {
      execFileSync('umount', ['-l', path])
      await rm(path, { recursive: true })
    },
  }
}

it('a full disk is named as such, by the start and by a send, and all goes on once there is space', async (test) => {
  await using disk = await smallDisk()
  if (!disk) return test.skip()
  await using project = await hostProject({ BAKE_DEFAULT_WORKER: '0' })
  const stateDir = join(disk.path, '.bake')
  const options = project.options()
  options.stateDir = stateDir
  options.spawn.args[1] = stateDir
  const filler = join(disk.path, 'filler')
  await writeFile(filler, Buffer.alloc(3 * 1024 * 1024)).catch(() => {})
  await expect(project.connect(options)).rejects.toMatchObject({ code: 'disk_full', exit: 4, kind: 'world' })
  await rm(filler)
  const { pid, queueEndpoint } = await project.connect(options)

  const queue = await SqsQueue.open({ endpoint: queueEndpoint, region: 'us-east-1', prefix: 'bake' })
  await writeFile(filler, Buffer.alloc(3 * 1024 * 1024)).catch(() => {})
  await expect(queue.send('normal', JSON.stringify('x'.repeat(200_000)))).rejects.toMatchObject({ code: 'disk_full', exit: 4 })
  await rm(filler)
  await queue.send('normal', '"fits"')
  expect(await queue.depth()).toMatchObject({ visible: 1, inFlight: 0 })
  queue.close()
  await stopHost(stateDir)
  await gone(pid)
})
