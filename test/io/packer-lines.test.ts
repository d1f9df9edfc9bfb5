import { expect, test } from 'vitest'
import { parsePackerLine } from '../../src/io/packer-lines.ts'

test('says, messages and errors of a source are told apart', () => {
  expect(parsePackerLine('1732201200,,ui,say,==> qemu.machine: Starting VM%!(PACKER_COMMA) booting disk')).toEqual([
    { type: 'say', from: 'qemu.machine', text: 'Starting VM, booting disk' },
  ])
  expect(parsePackerLine('1732201200,,ui,message,    qemu.machine: bake-phase: images begin')).toEqual([
    { type: 'message', from: 'qemu.machine', text: 'bake-phase: images begin' },
  ])
  expect(parsePackerLine("1732201200,,ui,error,Build 'qemu.machine' errored: no")).toEqual([
    { type: 'error', text: "Build 'qemu.machine' errored: no" },
  ])
  expect(parsePackerLine('1732201200,qemu.machine,error,Script exited with non-zero exit status: 3')).toEqual([
    { type: 'failed', from: 'qemu.machine', text: 'Script exited with non-zero exit status: 3' },
  ])
})

test('a record of several lines becomes several, without carriage returns and colours', () => {
  expect(parsePackerLine('1,,ui,message,    qemu.machine: one\\r\\n    qemu.machine: \x1b[1;32mtwo\x1b[0m\\n')).toEqual([
    { type: 'message', from: 'qemu.machine', text: 'one' },
    { type: 'message', from: 'qemu.machine', text: 'two' },
  ])
})

test('what says nothing to people is left out, what is no record is kept', () => {
  expect(parsePackerLine('1732201200,,version,1.6.6')).toEqual([])
  expect(parsePackerLine('1732201200,qemu.machine,artifact,0,builder-id,transcend.qemu')).toEqual([])
  expect(parsePackerLine('')).toEqual([])
  expect(parsePackerLine('panic: runtime error')).toEqual([{ type: 'message', text: 'panic: runtime error' }])
})
