import { expect, test } from 'vitest'
import { inPhase, PhaseSteps, phaseOf } from '../../src/ami/steps.ts'
import type { MachineEvent } from '../../src/events.ts'

const phase = (name: string, state: 'started' | 'done' | 'failed', seconds?: number): MachineEvent => ({
  ...{ type: 'phase', phase: name, state, t: 1 },
  ...(seconds !== undefined && { seconds }),
})

test('phases are numbered steps; one that begins again is another; a line alone begins its phase', () => {
  const steps = new PhaseSteps()
  const told = [
    phase('images', 'started'),
    { type: 'line', phase: 'images', text: 'pulling', t: 1 } as const,
    phase('images', 'done', 2),
    { type: 'line', phase: 'boot', text: 'BIOS', t: 1 } as const,
    phase('images', 'started'),
    phase('boot', 'failed', 3),
  ].flatMap((event) => steps.of(event))
  expect(
    told.map((event) => ('name' in event ? `${event.step} ${event.name} ${event.state}` : 'step' in event && `${event.step} |`)),
  ).toEqual(['0 images started', '0 |', '0 images done', '1 boot started', '1 |', '2 images started', '1 boot failed'])
})

test('a log’s steps are phases again for whoever waits', () => {
  const events = [
    phase('images', 'started'),
    phase('images', 'done', 2),
    { type: 'note', level: 'info', text: 'so', t: 1 } as const,
  ]
  const steps = new PhaseSteps()
  expect(events.flatMap((event) => steps.of(event)).map(phaseOf)).toEqual(events)
})

test('a phase’s end is told whichever way it ends', async () => {
  const told: MachineEvent[] = []
  const tell = (event: MachineEvent) => void told.push(event)
  expect(await inPhase('check', tell, async () => 7)).toBe(7)
  await expect(inPhase('bake', tell, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  expect(told).toMatchObject([
    { phase: 'check', state: 'started' },
    { phase: 'check', state: 'done', seconds: expect.any(Number) },
    { phase: 'bake', state: 'started' },
    { phase: 'bake', state: 'failed', seconds: expect.any(Number) },
  ])
})
