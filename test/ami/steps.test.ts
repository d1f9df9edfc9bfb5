import { describe, expect, test } from 'vitest'
import { inPhase, PhaseSteps, phaseOf, StepPhases } from '../../src/ami/steps.ts'
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

describe('a log, followed elsewhere', () => {
  const at = (phase: string, state: 'started' | 'done', t: number): MachineEvent => ({ type: 'phase', phase, state, t })
  const line = (phase: string, text: string): MachineEvent => ({ type: 'line', phase, text, t: 2 })

  test('is what was told where it was written', () => {
    const told = [at('boot', 'started', 1), line('boot', 'a'), at('boot', 'done', 3), at('scan', 'started', 4), line('scan', 'b')]
    const [steps, phases] = [new PhaseSteps(), new StepPhases()]
    expect(told.flatMap((event) => steps.of(event)).flatMap((event) => phases.of(event))).toEqual(told)
  })

  test('of a worker that was lost: its phases have failed when another begins', () => {
    const [steps, phases] = [new PhaseSteps(), new StepPhases()]
    for (const event of steps.of(at('boot', 'started', 1_000))) phases.of(event)
    expect(phases.of({ type: 'phase', phase: 'claimed', t: 3_000, worker: 'two' })).toEqual([
      { type: 'phase', phase: 'boot', state: 'failed', t: 3_000, seconds: 2 },
      { type: 'note', level: 'info', text: 'worker two has it', t: 3_000 },
    ])
    expect(phases.of({ type: 'phase', phase: 'claimed', t: 4_000, worker: 'three' })).toHaveLength(1)
  })
})
