import { expect, test } from 'vitest'
import { diskProver } from '../../src/ami/disk-prover.ts'
import type { Machines } from '../../src/ami/machines.ts'
import { assertTools } from '../../src/io/machine-tools.ts'
import { disk } from './plan.ts'

const MACHINES = {} as Machines
const tools = (architecture: 'amd64' | 'arm64', standIns: number) => {
  let asked: string[] = []
  const prover = diskProver(MACHINES, (commands) => {
    asked = commands
  })
  const image = { image: 'db', repository: 'r.example.com/db', digest: `sha256:${'0'.repeat(64)}` }
  prover.available!({ base: { ...disk, architecture }, standIns: Array.from({ length: standIns }, () => image) })
  return asked
}

test('what a proof boots machines with is asked for before anything is baked', () => {
  expect(tools('amd64', 0)).toEqual(['qemu-system-x86_64', 'mkfs.vfat', 'mcopy'])
  expect(tools('arm64', 0)).toContain('qemu-system-aarch64')
})

test('stand-ins are saved by docker', () => {
  expect(tools('amd64', 1)).toContain('docker')
})

test('a tool that isn’t there is named, with its package', () => {
  expect(() => assertTools(['sh', 'no-such-tool'])).toThrow(
    expect.objectContaining({ code: 'tool_missing', message: 'no-such-tool is not installed' }),
  )
})
