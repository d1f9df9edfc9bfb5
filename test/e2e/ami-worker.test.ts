import { spawnSync } from 'node:child_process'
import { DescribeInstancesCommand, EC2Client } from '@aws-sdk/client-ec2'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { AwsProofNetwork } from '../../src/io/aws-proof-network.ts'
import { readBuild } from '../../src/jobs/records.ts'
import { desiredResources } from '../../src/setup/desired.ts'
import { waitFor } from '../../src/wait.ts'
import { type Ec2Gaps, startEc2Gaps } from '../support/aws-gaps/ec2.ts'
import type { RunningBake } from '../support/bake.ts'
import { makeFleet, type TestFleet } from '../support/fleet.ts'
import { MOTO_REGION } from '../support/moto.ts'

/** Packer starts an instance, which nobody plays here: it waits for SSH until it is stopped. */
const WAITS = /Waiting for SSH/
const MINUTE_MS = 60_000
const YAML = `worker: { bakes: true }
machine:
  base: { ami: { owner: amazon, name: "al2023-ami-2023.*-x86_64" } }
  instance_type: t3.small
  services:
    web: { image: web, health: { http: "http://127.0.0.1:80/" } }`
const hasTools = ['packer'].every((tool) => spawnSync(tool, ['--version']).error === undefined)

let fleet: TestFleet
let gaps: Ec2Gaps
let ec2: EC2Client
let env: Record<string, string>
let worker: RunningBake
beforeAll(async () => {
  fleet = await makeFleet({ yaml: YAML })
  gaps = await startEc2Gaps(fleet.moto.endpoint)
  const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
  ec2 = new EC2Client({ region: MOTO_REGION, endpoint: gaps.endpoint, credentials })
  env = {
    AWS_ENDPOINT_URL_EC2: gaps.endpoint,
    AWS_POLL_DELAY_SECONDS: '1',
    BAKE_VISIBILITY_SECONDS: '5',
    BAKE_LEASE_SECONDS: '5',
  }
  for (const [name, value] of Object.entries({ ...fleet.moto.env, ...env })) vi.stubEnv(name, value)
  const machine = { project: 'shop', region: MOTO_REGION, copies: [] }
  await new AwsProofNetwork(MOTO_REGION).create(desiredResources({ partition: 'aws', machine })[0]!)
  await fleet.repo.git('tag', 'v1')
  worker = await fleet.worker('one', { env })
}, 3 * MINUTE_MS)
afterAll(async () => {
  vi.unstubAllEnvs()
  ec2?.destroy()
  await worker?.[Symbol.asyncDispose]()
  await fleet?.[Symbol.asyncDispose]()
  await gaps?.[Symbol.asyncDispose]()
})

/** Ids of instances that are there, by the run that they carry. */
async function instances(): Promise<string[]> {
  const { Reservations = [] } = await ec2.send(new DescribeInstancesCommand({}))
  return Reservations.flatMap(({ Instances = [] }) => Instances)
    .filter(({ State }) => State?.Name !== 'terminated')
    .map(({ Tags = [] }) => Tags.find(({ Key }) => Key === 'bake:run')?.Value ?? '')
}
const bake = (...args: string[]) => fleet.bake(args, { env })
const start = (...args: string[]) => fleet.start(args, { env })
const drained = () =>
  waitFor(
    async () => {
      const { visible, inFlight, delayed } = await fleet.queue.depth()
      const jobs = visible + inFlight + delayed + (await bakesQueued())
      return jobs === 0 && (await instances()).length === 0 ? true : undefined
    },
    { what: 'queues and EC2 to be empty', deadlineMs: MINUTE_MS, intervalMs: 200 },
  )
/** Until the log of the newest run has come to where Packer waits. */
const logged = (id: string) =>
  waitFor(async () => (WAITS.test((await bake('logs', id)).stdout) ? true : undefined), {
    what: 'Packer to wait',
    deadlineMs: 3 * MINUTE_MS,
    intervalMs: 500,
  })
/** Jobs in the bakes' queue, as `bake status` counts. */
async function bakesQueued(): Promise<number> {
  const { queues } = JSON.parse((await bake('status', '--json')).stdout) as {
    queues: { lane: string; visible: number; inFlight: number; delayed: number }[]
  }
  const { visible, inFlight, delayed } = queues.find(({ lane }) => lane === 'machine')!
  return visible + inFlight + delayed
}

describe.skipIf(!hasTools)('bake ami where workers bake', () => {
  test('follows the bake on a worker; Ctrl-C leaves it running, and bake cancel ends it', {
    timeout: 5 * MINUTE_MS,
  }, async () => {
    await using asking = start('ami', '--release', 'v1', '--progress', 'plain')
    await asking.waitFor('stderr', WAITS, 4 * MINUTE_MS)
    asking.kill('SIGINT')
    const { code, stdout, stderr } = await asking.wait()
    expect(code, stderr).toBe(130)
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^machine {2}note: worker one has it$/m)
    expect(stderr).toMatch(/^machine {2}check … /m)
    expect(stderr).toMatch(/^machine {2}packer$/m)
    const id = /bake logs (\S+) --follow/.exec(stderr)![1]!
    expect(stderr).toContain(`bake cancel ${id}`)

    expect(await instances()).toHaveLength(1)
    const status = JSON.parse((await bake('status', '--json')).stdout)
    expect(status.workers).toMatchObject([{ name: 'one', bakes: true, busy: 1, running: [{ build: id, image: 'machine' }] }])
    expect((await bake('logs', id)).stdout).toMatch(WAITS)
    const shown = await bake('build', id)
    expect(shown.stdout).toMatch(/^release +v1$/m)
    expect(JSON.parse((await bake('build', id, '--json')).stdout).build).toMatchObject({ status: 'running', worker: 'one' })

    const cancelled = await bake('cancel', id)
    expect(cancelled, cancelled.stderr).toMatchObject({ code: 0, stdout: `${id} cancelled\n` })
    await drained()
    expect(await readBuild(fleet.ledger, id)).toMatchObject({ status: 'cancelled' })
    const again = (await bake('retry', id, '--no-wait')).stdout.trim()
    expect(await readBuild(fleet.ledger, again)).toMatchObject({ machine: { release: 'v1', variant: 0 } })
    expect((await bake('cancel', again)).stdout).toBe(`${again} cancelled\n`)
    await drained()
  })

  test('asks without waiting; another worker takes it when one is killed', { timeout: 5 * MINUTE_MS }, async () => {
    const asked = await bake('ami', '--release', 'v1', '--no-wait', '--json')
    expect(asked, asked.stderr).toMatchObject({ code: 0 })
    const document = JSON.parse(asked.stdout)
    expect(document).toMatchObject({ release: 'v1', status: 'queued' })
    const id: string = document.build
    await logged(id)
    await using following = start('logs', id, '--follow')
    worker.kill('SIGKILL')
    await worker.wait()
    worker = await fleet.worker('two', { env })
    await following.waitFor('stdout', /on two/, 2 * MINUTE_MS)
    await logged(id)
    const runs = await instances()
    expect(new Set(runs).size).toBe(2)
    expect((await bake('cancel', id)).stdout).toBe(`${id} cancelled\n`)
    await following.wait()
    await waitFor(async () => ((await instances()).length === 1 ? true : undefined), {
      what: 'its instance to be gone',
      deadlineMs: MINUTE_MS,
      intervalMs: 200,
    })
  })

  test('bakes in its own process when told --here', { timeout: 5 * MINUTE_MS }, async () => {
    await using baking = start('ami', '--release', 'v1', '--here', '--progress', 'plain')
    await baking.waitFor('stderr', WAITS, 4 * MINUTE_MS)
    expect(await bakesQueued()).toBe(0)
    baking.kill('SIGINT')
    const { code, stderr } = await baking.wait()
    expect(code, stderr).toBe(130)
    expect(stderr).not.toMatch(/bake cancel/)
  })

  test('refuses what only makes sense here', async () => {
    const { code, stderr } = await bake('ami', '--release', 'v1', '--keep-failed')
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining('--here') })
  })
})
