import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TerminateInstancesCommand } from '@aws-sdk/client-ec2'
import { GetParameterCommand, SSMClient, UpdateDocumentCommand, UpdateDocumentDefaultVersionCommand } from '@aws-sdk/client-ssm'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { readSwaps } from '../../src/fleet/swap-record.ts'
import { sha256 } from '../../src/names.ts'
import { swapDocument, swapParameter } from '../../src/swap-document.ts'
import type { Agent } from '../support/aws-gaps/run-command.ts'
import { cells } from '../support/cells.ts'
import { MOTO_REGION } from '../support/moto.ts'
import { makeStackWorld, type StackWorld } from '../support/stack.ts'

/** The asker's half, with agents that say what bake's program on an instance says; test/e2e/swap-instances.test.ts has real instances. */
let world: StackWorld
let [group, stack, made] = ['', '', 0]
const ssm = () =>
  new SSMClient({
    region: MOTO_REGION,
    endpoint: world.commands.endpoint,
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
  })
const INPUTS = sha256('the machine image of v1')
const digestOf = (release: string) => `sha256:${sha256(release)}`

beforeAll(async () => {
  world = await makeStackWorld()
  await setUp()
})
beforeEach(() => {
  world.commands.lost.clear()
  world.commands.denied.clear()
  world.commands.ended.clear()
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  vi.unstubAllEnvs()
})

async function setUp() {
  await newStack()
  const result = await world.bake(['setup', '--yes'])
  expect(result, result.stderr).toMatchObject({ code: 0 })
}

/** A group of its own for each test, whose instances have agents. */
async function newStack({ size = 2, swappable = 'swappable: true' } = {}) {
  group = await world.makeGroup({ size })
  stack = `s${++made}`
  await world.setStacks(`  ${stack}: { autoscaling_group: ${group}, ${swappable} }\n`)
  const { ids } = await world.group(group)
  for (const id of ids) world.commands.agents.set(id, well)
  return ids
}

const asked = (script: string) =>
  [...script.matchAll(/([\w.-]+)=(sha256:[0-9a-f]{64})/g)].map(([, service, digest]) => ({ service, digest }))
const says = (...lines: object[]) => [{ inputs: INPUTS }, ...lines].map((line) => `bake-swap: ${JSON.stringify(line)}\n`).join('')
const well: Agent = async (script) => ({
  status: 0,
  stdout: says(...asked(script).map((each) => ({ ...each, status: 'swapped', before: digestOf('v1'), seconds: 1 }))),
  stderr: '',
})
const sick: Agent = async (script) => ({
  status: 1,
  stdout: says(
    ...asked(script).map(({ service }) => ({
      service,
      status: 'kept',
      digest: digestOf('v1'),
      seconds: 2,
      why: 'it answers 500',
    })),
  ),
  stderr: 'docker said much',
})
const swap = (release: string, ...more: string[]) =>
  world.bake(['swap', '--stack', stack, '--release', release, '--json', ...more])
const parameter = () =>
  ssm()
    .send(new GetParameterCommand({ Name: swapParameter('shop', stack) }))
    .then(
      ({ Parameter }) => Parameter?.Value,
      () => undefined,
    )
const current = async () => (await readSwaps(world.ledger, stack)).current

describe('bake swap of a group', () => {
  test('asks all instances at once by bake’s own document, records it, and tells those that join', async () => {
    const ids = await newStack({ size: 3 })
    const before = world.commands.sent.length
    const result = await swap('v2')
    expect(result, result.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(result.stdout)).toMatchObject({
      stack,
      instances: ids.map((instance) => ({ instance, services: [{ service: 'web', status: 'swapped', digest: digestOf('v2') }] })),
      starting: [],
    })
    expect(world.commands.sent.slice(before)).toEqual([
      {
        instances: ids,
        parameters: { Services: `web=${digestOf('v2')}`, Mode: 'each' },
        comment: `bake swap shop/${stack}`,
        version: expect.stringMatching(/^[0-9]+$/),
      },
    ])
    expect(await current()).toMatchObject({ status: 'swapped', images: { web: digestOf('v2') }, inputs: [INPUTS] })
    expect(await parameter()).toBe(`bake-swap 1\ninputs ${INPUTS}\nweb ${digestOf('v2')}\n`)
    expect((await world.bake(['stacks'])).stdout).toMatch(/swapped to/)
  })

  test('where one instance is not well is told with the reason, and not recorded', async () => {
    const [first, second] = await newStack()
    world.commands.agents.set(second!, sick)
    const result = await swap('v2')
    expect(result).toMatchObject({ code: 3 })
    expect(JSON.parse(result.stdout)).toMatchObject({
      instances: [{ instance: first }, { instance: second, why: 'web: what ran before runs again: it answers 500' }],
      error: { code: 'swap_failed', message: expect.stringContaining(`1 of 2 instances: ${second}: web: what ran before`) },
    })
    expect(await current()).toBeUndefined()
    expect(await parameter()).toBeUndefined()
  })

  test('--atomic puts the others back, to what each ran', async () => {
    const [first, second] = await newStack()
    world.commands.agents.set(second!, sick)
    const before = world.commands.sent.length
    const result = await swap('v2', '--atomic')
    expect(result).toMatchObject({ code: 3 })
    expect(JSON.parse(result.stdout)).toMatchObject({
      instances: [
        {
          instance: first,
          services: [{ status: 'kept', digest: digestOf('v1') }],
          why: 'another instance of the stack was not well',
        },
        { instance: second },
      ],
    })
    expect(world.commands.sent.slice(before)).toMatchObject([
      { parameters: { Mode: 'atomic' } },
      { instances: [first], parameters: { Services: `web=${digestOf('v1')}`, Mode: 'each' } },
    ])
    expect(await parameter()).toBeUndefined()
  })

  test('an instance that is lost, and one whose machine image can’t', async () => {
    const [first, second, third] = await newStack({ size: 3 })
    world.commands.lost.add(second!)
    world.commands.agents.set(third!, async () => ({ status: 69, stdout: '', stderr: '' }))
    const result = await swap('v2')
    expect(JSON.parse(result.stdout)).toMatchObject({
      instances: [
        { instance: first, services: [{ status: 'swapped' }] },
        { instance: second, why: 'its agent did not take the command: the instance is gone, or cut off' },
        { instance: third, why: 'its machine image was baked before bake could swap: bake and deploy a new one' },
      ],
      error: { code: 'swap_failed' },
    })
  })

  test('one that ended before it was asked keeps nobody else from being asked', async () => {
    const [first, second] = await newStack()
    world.commands.ended.add(second!)
    const result = await swap('v2')
    expect(JSON.parse(result.stdout)).toMatchObject({
      instances: [
        { instance: first, services: [{ status: 'swapped' }] },
        { instance: second, why: expect.stringContaining('gone, or cut off') },
      ],
    })
  })

  test('one that ends while it is asked is not waited for', async () => {
    const [first, second] = await newStack()
    await world.setStacks(`  ${stack}: { targets: { InstanceIds: [${first}, ${second}] } }\n`)
    world.commands.agents.set(second!, async () => {
      await world.ec2.client().send(new TerminateInstancesCommand({ InstanceIds: [second!] }))
      return await new Promise(() => {})
    })
    const result = await swap('v2')
    expect(JSON.parse(result.stdout)).toMatchObject({
      instances: [
        { instance: first, services: [{ status: 'swapped' }] },
        { instance: second, why: 'the instance is gone' },
      ],
    })
  })

  test('of other machine images begins a new record', async () => {
    const ids = await newStack()
    expect(await swap('v2')).toMatchObject({ code: 0 })
    const inputs = sha256('the machine image of v2')
    const other: Agent = async (script) => {
      const ran = await well(script)
      return { ...ran, stdout: ran.stdout.replace(INPUTS, inputs) }
    }
    for (const id of ids) world.commands.agents.set(id, other)
    expect(await swap('v3')).toMatchObject({ code: 0 })
    expect(await current()).toMatchObject({ images: { web: digestOf('v3') }, inputs: [inputs] })
  })

  test('two at once: the second is refused; what was killed is gone on from', async () => {
    const ids = await newStack({ size: 1 })
    const hangs = Promise.withResolvers<void>()
    world.commands.agents.set(ids[0]!, async () => {
      hangs.resolve()
      return await new Promise(() => {})
    })
    await using killed = world.start(['swap', '--stack', stack, '--release', 'v2'])
    await hangs.promise
    const second = await swap('v2')
    expect(second, second.stdout).toMatchObject({ code: 2 })
    expect(JSON.parse(second.stdout)).toMatchObject({ error: { code: 'stack_busy' } })
    killed.kill('SIGKILL')
    await killed.wait()
    world.commands.agents.set(ids[0]!, well)
    // As soon as its last heartbeat is older than a lease.
    await vi.waitFor(async () => expect(await swap('v3')).toMatchObject({ code: 0 }), { timeout: 40_000, interval: 1_000 })
    expect(await current()).toMatchObject({ images: { web: digestOf('v3') } })
  })

  test.each(cells(['swap-begun', 'swap-ran', 'swap-recorded']))('kill -9 at %s, and again', async (point) => {
    await newStack()
    const killed = await world.bake(['swap', '--stack', stack, '--release', 'v2'], { env: { BAKE_FAILPOINT: `${point}:kill` } })
    expect(killed).toMatchObject({ signal: 'SIGKILL' })
    await vi.waitFor(async () => expect(await swap('v2')).toMatchObject({ code: 0 }), { timeout: 40_000, interval: 1_000 })
    expect(await current()).toMatchObject({ status: 'swapped', images: { web: digestOf('v2') } })
    expect(await parameter()).toContain(`web ${digestOf('v2')}`)
  })

  test('an instance that joins while it goes on is asked as well', async () => {
    const [first] = await newStack({ size: 1 })
    const other = await world.makeGroup({ size: 1 })
    const { ids } = await world.group(other)
    await world.setStacks(`  ${stack}: { targets: { InstanceIds: [${[first, ...ids].join(', ')}] } }\n`)
    world.commands.agents.set(first!, async (script) => {
      world.commands.agents.set(ids[0]!, well)
      return await well(script)
    })
    const result = await swap('v2')
    expect(result, result.stderr).toMatchObject({ code: 0 })
    expect(
      JSON.parse(result.stdout)
        .instances.map(({ instance }: { instance: string }) => instance)
        .sort(),
    ).toEqual([first, ids[0]].sort())
  })

  test('one that still starts is left to the record', async () => {
    const [first, second] = await newStack()
    world.commands.agents.delete(second!)
    const result = await swap('v2')
    expect(result, result.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(result.stdout)).toMatchObject({ instances: [{ instance: first }], starting: [second] })
    expect(await parameter()).toContain(`web ${digestOf('v2')}`)
  })

  test('a deployment takes its place', async () => {
    const ids = await newStack()
    expect(await swap('v2')).toMatchObject({ code: 0 })
    const deployed = await world.bake(['deploy', '--stack', stack, '--release', 'v1', '--yes', '--json'])
    expect(deployed, deployed.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(deployed.stdout)).toMatchObject({ status: 'deployed' })
    expect(await current()).toBeUndefined()
    expect(await parameter()).toBeUndefined()
    expect((await world.group(group)).ids).not.toEqual(ids)
  })
})

describe('nothing is changed, and one clear error says why:', () => {
  const refusedWith = async (code: string, message: RegExp, ...more: string[]) => {
    const before = world.commands.sent.length
    const result = await swap('v2', ...more)
    expect(JSON.parse(result.stdout)).toMatchObject({ error: { code, message: expect.stringMatching(message) } })
    expect(world.commands.sent.length).toBe(before)
    expect(await parameter()).toBeUndefined()
    return result
  }

  test('a group that may not be swapped', async () => {
    await newStack({ swappable: 'rolling: { min_healthy: 90 }' })
    await refusedWith('not_swappable', /not to be swapped/)
  })
  test('no instance', async () => {
    await newStack()
    await world.setStacks(`  ${stack}: { targets: { "tag:nobody": has } }\n`)
    await refusedWith('no_instances', /no running instance/)
  })
  test('no permission names the IAM action', async () => {
    await newStack()
    world.commands.denied.add('SendCommand')
    const result = await swap('v2')
    expect(JSON.parse(result.stdout)).toMatchObject({
      error: { code: 'ec2_denied', next: expect.stringContaining('ssm:SendCommand') },
    })
  })
  test('and after an error nobody has to wait', async () => {
    await newStack()
    world.commands.denied.add('SendCommand')
    expect(await swap('v2')).toMatchObject({ code: 4 })
    world.commands.denied.clear()
    expect(await swap('v2')).toMatchObject({ code: 0 })
  })
  test('a document that somebody altered; bake setup sets it right', async () => {
    await newStack()
    const Content = JSON.stringify({ ...swapDocument, description: 'mine' })
    const { DocumentDescription } = await ssm().send(
      new UpdateDocumentCommand({ Name: 'bake-swap', Content, DocumentVersion: '$LATEST' }),
    )
    await ssm().send(
      new UpdateDocumentDefaultVersionCommand({ Name: 'bake-swap', DocumentVersion: DocumentDescription!.DocumentVersion }),
    )
    await refusedWith('document_altered', /not what this bake wrote/)
    const plan = await world.bake(['setup', '--dry-run'])
    expect(plan.stdout).toMatch(/change +document +bake-swap/)
    expect(await world.bake(['setup', '--yes'])).toMatchObject({ code: 0 })
    expect(await swap('v2')).toMatchObject({ code: 0 })
  })
  test('an image for another processor', async () => {
    await newStack()
    const yaml = await readFile(join(world.repo.dir, 'bake.yaml'), 'utf8')
    await world.repo.commit({ 'bake.yaml': yaml.replace('{ context: web }', '{ context: web, platforms: [linux/arm64] }') })
    await refusedWith('wrong_architecture', /built for arm64/)
  })
})
