import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateQueueCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs'
import { expect, test } from 'vitest'
import { waitFor } from '../../src/wait.ts'
import { makeFleet } from '../support/fleet.ts'
import { MOTO_REGION } from '../support/moto.ts'

/** The account that the emulator is. */
const ACCOUNT = '123456789012'

test('a CI job without a checkout asks a fleet, whose worker tells a queue how the build ended', {
  timeout: 300_000,
}, async () => {
  await using fleet = await makeFleet({
    yaml: `notify:\n  - { sqs: "arn:aws:sqs:${MOTO_REGION}:${ACCOUNT}:told", on: [built, tagged] }`,
  })
  const sqs = new SQSClient({
    region: MOTO_REGION,
    endpoint: fleet.moto.endpoint,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    useQueueUrlAsEndpoint: false,
  })
  const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: 'told' }))
  const dir = await mkdtemp(join(tmpdir(), 'bake-ci-'))
  try {
    await using worker = await fleet.worker('one')
    const commit = await fleet.repo.git('rev-parse', 'HEAD')
    const asked = await fleet.bake(['image', '--sha', commit, '--branch', 'main', '--json'], {
      cwd: dir,
      env: { BAKE_REPOSITORY: fleet.dir },
    })
    expect(asked.code, asked.stderr).toBe(0)
    const { images } = JSON.parse(asked.stdout)
    expect(images).toMatchObject([{ image: 'web', status: 'built' }])
    expect(await fleet.tagged('branch-main')).toBe(images[0].digest)
    const status = await fleet.bake(['status', '--json'], { cwd: dir, env: { BAKE_REPOSITORY: fleet.dir } })
    expect(JSON.parse(status.stdout), status.stderr).toMatchObject({ aws: true, workers: [{ name: 'one' }] })

    const message = await waitFor(
      async () => (await sqs.send(new ReceiveMessageCommand({ QueueUrl, MessageAttributeNames: ['All'] }))).Messages?.[0],
      { what: 'the notice', deadlineMs: 60_000, intervalMs: 200 },
    )
    expect(JSON.parse(message.Body!)).toMatchObject({
      type: 'image.built',
      data: { commit, branch: 'main', image: 'web', worker: 'one', digest: images[0].digest },
    })
    expect(message.MessageAttributes).toMatchObject({ type: { StringValue: 'image.built' } })
    worker.kill('SIGTERM')
    expect((await worker.wait()).code).toBe(0)
  } finally {
    sqs.destroy()
    await rm(dir, { recursive: true, force: true })
  }
})
