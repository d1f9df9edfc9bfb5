import { afterAll, beforeAll, expect, test } from 'vitest'
import { plan, service } from '../ami/plan.ts'
import { startInstance, type TestInstance } from '../support/instance.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pushService } from '../support/service-image.ts'

let registry: TestRegistry
let instance: TestInstance
const digests: Record<string, string> = {}
beforeAll(async () => {
  registry = await startRegistry()
  for (const name of ['one', 'two']) digests[name] = await pushService(registry.host, 'shop/web', name)
  const reference = { image: 'web', repository: `${registry.host}/shop/web`, digest: digests.one! }
  const web = service('web', {
    reference,
    ports: [{ host: 80, container: 3000, protocol: 'tcp' }],
    health: { http: 'http://127.0.0.1/content', withinSeconds: 5 },
  })
  console.time('start')
  instance = await startInstance({ plan: plan([web]), registryPort: Number(registry.host.split(':')[1]) })
  console.timeEnd('start')
})
afterAll(async () => {
  await instance?.[Symbol.asyncDispose]()
  await registry?.[Symbol.asyncDispose]()
})
test('x', async () => {
  console.log(
    await instance.run(
      'systemctl show --property=ActiveState bake-web.service; journalctl _SYSTEMD_UNIT=bake-web.service; cat /run/bake/*; docker ps -a; curl -s http://127.0.0.1/content; ls /sys/class/net',
    ),
  )
  console.log(await instance.run(`time /usr/local/lib/bake/swap run web=${digests.two}; curl -s http://127.0.0.1/content`))
  expect(await instance.containers()).toEqual({ 'bake-web': `${registry.host}/shop/web@${digests.two}` })
})
