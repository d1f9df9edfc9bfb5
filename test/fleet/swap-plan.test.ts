import { expect, test } from 'vitest'
import { membersOf } from '../../src/fleet/swap-plan.ts'
import { readReport } from '../../src/fleet/swap-report.ts'
import type { SwapStackWorld } from '../../src/fleet/swap-world.ts'
import { swapDocument } from '../../src/swap-document.ts'

const NOW = 1e12
const world = (ages: Record<string, number>, online: string[]) =>
  ({
    stack: 'dev',
    instances: async () => Object.keys(ages),
    describe: async (ids: string[]) =>
      ids.map((id) => ({ id, state: 'running', architecture: 'x86_64', startedAt: NOW - ages[id]! * 60_000 })),
    commands: { online: async () => new Set(online) },
    now: () => NOW,
  }) as unknown as SwapStackWorld

test('an instance without an agent is refused, unless it has only just started', async () => {
  await expect(membersOf(world({ 'i-1': 60, 'i-2': 60 }, ['i-1']))).rejects.toMatchObject({
    code: 'agent_missing',
    message: expect.stringContaining('i-2'),
  })
  expect(await membersOf(world({ 'i-2': 60, 'i-1': 60, 'i-3': 1 }, ['i-1', 'i-2']))).toEqual({
    ready: ['i-1', 'i-2'],
    starting: ['i-3'],
  })
  await expect(membersOf(world({ 'i-1': 1 }, []))).rejects.toMatchObject({ message: expect.stringContaining('still starting') })
})

test('what isn’t the program’s own is passed over', () => {
  const web = { service: 'web', status: 'swapped', digest: `sha256:${'a'.repeat(64)}`, seconds: 1 }
  const lines = [
    'hello',
    'bake-swap: {',
    'bake-swap: {"service":"web","status":"fine","seconds":1}',
    `bake-swap: ${JSON.stringify(web)}`,
  ]
  expect(readReport(lines.join('\n'))).toEqual({ services: [web] })
})

test('the document takes names and digests, and nothing that a shell looks at', () => {
  const pattern = new RegExp(swapDocument.parameters.Services.allowedPattern)
  const digest = `sha256:${'a'.repeat(64)}`
  expect(pattern.test(`web=${digest} jobs.1=${digest}`)).toBe(true)
  for (const bad of [
    '',
    `web=${digest}; id`,
    `web=${digest}\nid`,
    `$(id)=${digest}`,
    `web=${digest}  x=${digest}`,
    `-w=${digest}`,
    'web=latest',
  ])
    expect(pattern.test(bad), bad).toBe(false)
})
