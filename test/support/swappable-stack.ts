import { sha256 } from '../../src/names.ts'
import { plan, service } from '../ami/plan.ts'
import { startInstance, type TestInstance } from './instance.ts'
import { startRegistry } from './registry.ts'
import { pushService } from './service-image.ts'
import { makeStackWorld, type StackWorld, type TestRelease } from './stack.ts'

/** Of the machine image that all instances are of. */
const STACK_INPUTS = sha256('a machine image')

/**
 * A stack whose instances are machines with engines, reached through Run Command: releases v1 to v3 have an image web each. They run v1's; v3's never gets
 * healthy.
 */
export interface SwappableStack extends AsyncDisposable {
  readonly world: StackWorld
  readonly stack: string
  readonly group: string
  /** By id, in order. */
  readonly instances: TestInstance[]
  readonly digests: Record<TestRelease, string>
}

/** `size` instances, two seconds each. Needs root on Linux. */
export async function startSwappableStack(size: number): Promise<SwappableStack> {
  await using undo = new AsyncDisposableStack()
  const registry = undo.use(await startRegistry())
  const push = (content: string, line?: string) => pushService(registry.host, 'shop/web', content, line)
  const digests = { v1: await push('v1'), v2: await push('v2'), v3: await push('v3', ':') }
  const repository = `${registry.host}/shop/web`
  const world = undo.use(await makeStackWorld((release) => ({ repository, digest: digests[release] })))
  const group = await world.makeGroup({ size })
  const stack = 'dev'
  await world.setStacks(`  ${stack}: { autoscaling_group: ${group}, swappable: true }\n`)
  const web = service('web', {
    reference: { image: 'web', repository, digest: digests.v1 },
    ports: [{ host: 80, container: 3000, protocol: 'tcp' }],
    health: { http: 'http://127.0.0.1/content', withinSeconds: 4 },
  })
  const instances: TestInstance[] = []
  for (const id of (await world.group(group)).ids) {
    const instance = undo.use(
      await startInstance({ id, plan: plan([web], { inputs: STACK_INPUTS }), registryPort: Number(registry.host.split(':')[1]) }),
    )
    world.commands.agents.set(id, async (script) => {
      const { status, stdout, stderr } = await instance.run(script)
      return { status: status ?? -1, stdout, stderr }
    })
    instances.push(instance)
  }
  const set = await world.bake(['setup', '--yes'])
  if (set.code !== 0) throw new Error(set.stderr)
  const running = undo.move()
  return { world, stack, group, instances, digests, [Symbol.asyncDispose]: () => running.disposeAsync() }
}
