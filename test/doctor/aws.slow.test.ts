import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openWorld } from '../../src/doctor/world.ts'
import { type CheckResult, examine } from '../../src/doctor.ts'
import { startMoto } from '../support/moto.ts'

test('bake doctor looks at the queue and the ledger of a fleet, and needs no engine there', async () => {
  await using moto = await startMoto()
  const before = { ...process.env }
  Object.assign(process.env, moto.env)
  const dir = await mkdtemp(join(tmpdir(), 'bake-doctor-'))
  try {
    const bucket = await moto.createBucket()
    const look = async (queue: string, bucketName: string): Promise<Record<string, CheckResult>> => {
      const aws = `aws: { region: us-east-1, queue: ${queue}, bucket: ${bucketName} }`
      await writeFile(
        join(dir, 'bake.yaml'),
        `project: p\nrepository: https://example.com/p.git\nregistry: localhost:1/p\n${aws}\nimages: { a: . }\n`,
      )
      const world = openWorld(dir, { ...process.env, DOCKER_HOST: 'unix:///nowhere.sock' })
      return Object.fromEntries((await examine(world, new AbortController().signal)).map((result) => [result.id, result]))
    }
    const fine = await look(await moto.createQueues(), bucket)
    expect(fine.queue).toMatchObject({ status: 'ok', detail: expect.stringMatching(/: 0 waiting, 0 taken$/) })
    expect(fine.ledger).toMatchObject({ status: 'ok', detail: `s3://${bucket}` })
    expect(fine.engine).toMatchObject({ status: 'skipped' })

    const missing = await look('nobody', 'nobody-has-it')
    expect(missing.queue).toMatchObject({ status: 'failed', fix: expect.stringContaining('bake setup') })
    expect(missing.ledger).toMatchObject({ status: 'failed', fix: expect.stringContaining('bake setup') })
  } finally {
    process.env = before
    await rm(dir, { recursive: true })
  }
})
