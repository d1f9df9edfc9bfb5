import { expect, test } from 'vitest'
import { PackerStory } from '../../src/ami/packer-story.ts'
import type { MachineEvent } from '../../src/events.ts'
import type { PackerLine } from '../../src/io/packer-lines.ts'

const say = (text: string): PackerLine => ({ type: 'say', from: 'qemu.machine', text })
const message = (text: string): PackerLine => ({ type: 'message', from: 'qemu.machine', text })

function story(lines: PackerLine[], ok: boolean) {
  const events: MachineEvent[] = []
  const told = new PackerStory((event) => events.push(event))
  for (const line of lines) told.take(line)
  const end = told.end(ok)
  return { end, phases: events.flatMap((event) => (event.type === 'phase' ? [`${event.phase} ${event.state}`] : [])), events }
}

test("Packer's own work and our steps are phases, one after the other", () => {
  const { phases } = story(
    [
      say('Copying hard drive...'),
      say('Starting VM, booting disk image'),
      say('Connected to SSH!'),
      say('Uploading steps => /run/bake-bake'),
      message('bake-phase: images begin'),
      message('pulled web'),
      message('bake-phase: images end'),
      say('Gracefully halting virtual machine...'),
      say('Converting hard drive...'),
    ],
    true,
  )
  expect(phases).toEqual(
    ['packer', 'boot', 'upload', 'images', 'packer', 'power-off', 'save'].flatMap((phase) => [
      `${phase} started`,
      `${phase} done`,
    ]),
  )
})

test('a step that fails is named with its last lines, not with those of the tidying up', () => {
  const noise = Array.from({ length: 30 }, (_, n) => message(`line ${n}`))
  const { end, phases } = story(
    [
      say('Connected to SSH!'),
      message('bake-phase: scan begin'),
      ...noise,
      message('scan: an SSH private key in /root/.ssh/id_ed25519'),
      { type: 'failed', from: 'qemu.machine', text: 'Script exited with non-zero exit status: 1' },
      say('Deleting output directory...'),
      { type: 'error', text: "Build 'qemu.machine' errored" },
    ],
    false,
  )
  expect(end.phase).toBe('scan')
  expect(end.lines).toHaveLength(20)
  expect(end.lines.at(-1)).toBe('scan: an SSH private key in /root/.ssh/id_ed25519')
  expect(phases).toContain('scan failed')
  expect(phases.filter((text) => text.startsWith('tidy'))).toEqual(['tidy started', 'tidy failed'])
})

test('what a step says on stderr is no failure, and its last words count', () => {
  const { end, phases } = story(
    [
      message('bake-phase: setup begin'),
      { type: 'error', from: 'qemu.machine', text: 'warning: slow' },
      message('goes on'),
      message('bake-phase: setup end'),
      message('bake-phase: scan begin'),
      { type: 'error', from: 'qemu.machine', text: 'a private key is in /etc/key' },
      { type: 'error', from: 'qemu.machine', text: 'bake: secrets' },
      say('Provisioning step had errors: Running the cleanup provisioner, if present...'),
      say('Deleting output directory...'),
      { type: 'failed', from: 'qemu.machine', text: 'Script exited with non-zero exit status: 1' },
    ],
    false,
  )
  expect(end).toEqual({ phase: 'scan', lines: ['a private key is in /etc/key'], reasons: ['secrets'] })
  expect(phases).toContain('setup done')
  expect(phases).toContain('scan failed')
})

test('seconds are told with every end', () => {
  const { events } = story([say('Starting VM, booting disk image')], true)
  for (const event of events)
    if (event.type === 'phase' && event.state !== 'started') expect(event.seconds).toBeGreaterThanOrEqual(0)
})
