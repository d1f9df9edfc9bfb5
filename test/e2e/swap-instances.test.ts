import { afterAll, beforeAll, expect, test } from 'vitest'
import { type SwappableStack, startSwappableStack } from '../support/swappable-stack.ts'

/** Both halves: bake swap, Run Command, and machines with engines that do what the document says. */
let it: SwappableStack
beforeAll(async () => {
  it = await startSwappableStack(2)
})
afterAll(async () => await it?.[Symbol.asyncDispose]())

const swap = (release: string, ...more: string[]) =>
  it.world.bake(['swap', '--stack', it.stack, '--release', release, '--json', ...more])
const contents = () =>
  Promise.all(it.instances.map(async (instance) => (await instance.run('curl -s http://127.0.0.1/content')).stdout))

test('a release is on every instance, healthy, and stays over a reboot', async () => {
  expect(await contents()).toEqual(['v1', 'v1'])
  const result = await swap('v2')
  expect(result, result.stderr).toMatchObject({ code: 0 })
  expect(JSON.parse(result.stdout)).toMatchObject({
    instances: it.instances.map(({ id }) => ({
      instance: id,
      services: [{ service: 'web', status: 'swapped', digest: it.digests.v2, before: it.digests.v1 }],
    })),
  })
  expect(await contents()).toEqual(['v2', 'v2'])
  await it.instances[0]!.reboot()
  expect(await contents()).toEqual(['v2', 'v2'])
  expect(JSON.parse((await swap('v2')).stdout)).toMatchObject({
    instances: [{ services: [{ status: 'unchanged' }] }, { services: [{ status: 'unchanged' }] }],
  })
})

test('an instance that joins runs what the stack was swapped to', async () => {
  await using joined = await it.join()
  expect((await joined.run('curl -s http://127.0.0.1/content')).stdout).toBe('v2')
  expect((await joined.run('bake-release')).stdout).toMatch(new RegExp(`swapped web [^ ]+@${it.digests.v2}`))
})

test('an image that never gets healthy: what ran before runs again, everywhere', async () => {
  const result = await swap('v3')
  expect(result, result.stdout).toMatchObject({ code: 3 })
  expect(JSON.parse(result.stdout)).toMatchObject({
    instances: it.instances.map(() => ({
      services: [{ status: 'kept', digest: it.digests.v2 }],
      why: expect.stringMatching(/web: what ran before runs again: not healthy after 4 s: it closes the connection/),
    })),
    error: { code: 'swap_failed' },
  })
  expect(await contents()).toEqual(['v2', 'v2'])
})

test('an instance that can’t pull keeps what it runs, and with --atomic so do the others', async () => {
  const [first, second] = it.instances
  await second!.run(`cat >/usr/local/bin/docker <<'SH'
#!/bin/bash
case " $* " in *" pull "*) echo 'no route to host' >&2; exit 1 ;; esac
exec /usr/bin/docker "$@"
SH
chmod +x /usr/local/bin/docker; docker image rm --force ${it.digests.v1} >/dev/null`)
  await first!.run('true')
  const result = await swap('v1', '--atomic')
  expect(result, result.stdout).toMatchObject({ code: 3 })
  expect(JSON.parse(result.stdout)).toMatchObject({
    error: { code: 'swap_failed', message: expect.stringContaining(second!.id) },
  })
  expect(await contents()).toEqual(['v2', 'v2'])
})
