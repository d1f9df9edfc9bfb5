import { expect, test, vi } from 'vitest'
import { startFaultyRegistry } from '../support/faulty-registry.ts'
import { makeProject } from '../support/project.ts'

vi.setConfig({ testTimeout: 120_000 })

const filesFor = (registry: string) => ({
  'bake.yaml': `project: shop\nregistry: ${registry}/shop\nimages:\n  web: { context: web }\n`,
  'web/Dockerfile': 'FROM scratch\nCOPY server.js /\n',
  'web/server.js': `// ${Math.random()}\n`,
})

test('a registry that takes the image and not its tags: the story says what is tried again and when, and goes on to the end', async () => {
  await using registry = await startFaultyRegistry()
  let down = true
  registry.fault = ({ method, path }) => (down && method === 'PUT' && /\/manifests\/sha-/.test(path) ? 503 : undefined)
  await using project = await makeProject(filesFor(registry.host))
  await using asking = project.start(['image', '--json'])
  const told = await asking.waitFor('stderr', /"type":"retry"/, 60_000)
  expect(JSON.parse(told)).toMatchObject({
    ...{ type: 'image', image: 'web' },
    event: { code: expect.stringMatching(/^registry_/), attempt: 1, of: 5, inSeconds: 2, message: expect.any(String) },
  })
  const [published] = await project.builds()
  expect((await project.claims(published!.commit)).entries.map(({ state }) => state)).toEqual(['claimed', 'published'])
  down = false
  const ended = await asking.wait()
  expect(ended, ended.stderr).toMatchObject({ code: 0 })
  const phases = asking.lines('stderr').flatMap((line) => {
    const { event } = JSON.parse(line) as { event?: { type: string; phase?: string } }
    // A worker may be quicker than the asker's first look.
    if (event?.phase === 'queued') return []
    return event?.type === 'phase' ? [event.phase] : event?.type === 'retry' ? ['retry'] : []
  })
  expect(phases.filter((phase, n) => phase !== 'retry' || phases[n - 1] !== 'retry')).toEqual([
    ...['claimed', 'fetching', 'building', 'publishing', 'tagging', 'retry'],
  ])
  const [record] = await project.builds()
  expect(record).toMatchObject({ status: 'built' })
  expect(record?.retry).toBeUndefined()
  // One publication, however often its tags were tried.
  expect((await project.claims(record!.commit)).entries).toHaveLength(2)
})
