import { expect, test } from 'vitest'
import { type MachineShape, machineArguments } from '../../src/io/qemu-arguments.ts'

const SHAPE: MachineShape = {
  disk: { path: '/d/a,b.raw', format: 'raw' },
  architecture: 'amd64',
  network: 'none',
  extraDisks: [],
  memoryMiB: 1024,
  cpus: 2,
  accelerator: 'tcg',
  credentials: {},
  console: 'console',
}
const valuesOf = (shape: Partial<MachineShape>, option: string) => {
  const args = machineArguments({ ...SHAPE, ...shape })
  return args.flatMap((arg, i) => (arg === option ? [args[i + 1]] : []))
}

test('no network is no card, not only a card without a cable', () => {
  expect(valuesOf({}, '-nic')).toEqual(['none'])
  expect(valuesOf({}, '-netdev')).toEqual([])
  expect(machineArguments(SHAPE)).toContain('-nodefaults')
})

test('a dead network answers to DHCP only; forwarded ports are on loopback', () => {
  expect(valuesOf({ network: 'dead' }, '-netdev')).toEqual(['user,id=net,ipv6=off,restrict=on'])
  expect(valuesOf({ network: { hostForwards: [{ host: 8080, guest: 80 }] } }, '-netdev')).toEqual([
    'user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:8080-:80',
  ])
})

test('every disk is thrown away, the first one boots, and a comma in a path ends nothing', () => {
  const drives = valuesOf({ extraDisks: [{ path: '/d/x.tar', format: 'raw', serial: 'bake-standins' }] }, '-drive')
  expect(drives).toEqual([
    'if=none,id=root,format=raw,snapshot=on,discard=unmap,file=/d/a,,b.raw',
    'if=none,id=extra0,format=raw,snapshot=on,discard=unmap,file=/d/x.tar',
  ])
  expect(valuesOf({}, '-device')[0]).toBe('nvme,drive=root,serial=bake-root,bootindex=0')
})

test('credentials are binary, so that no character of theirs means anything', () => {
  expect(valuesOf({ credentials: { 'ssh.authorized_keys.root': 'a,b\n' } }, '-smbios')).toEqual([
    'type=11,value=io.systemd.credential.binary:ssh.authorized_keys.root=YSxiCg==',
  ])
})

test('the processor is the real one under KVM, and a machine of arm64 another kind', () => {
  expect([...valuesOf({}, '-accel'), ...valuesOf({}, '-cpu'), ...valuesOf({}, '-machine')]).toEqual([
    'tcg',
    'max,erms=off,fsrm=off',
    'q35',
  ])
  expect(valuesOf({ accelerator: 'kvm' }, '-cpu')).toEqual(['host'])
  const uefi = { code: '/f/code.fd', variables: '/f/vars.fd' }
  expect(valuesOf({ architecture: 'arm64', uefi }, '-machine')).toEqual(['virt'])
  expect(valuesOf({ uefi }, '-drive').slice(0, 2)).toEqual([
    'if=pflash,format=raw,readonly=on,file=/f/code.fd',
    'if=pflash,format=raw,readonly=off,file=/f/vars.fd',
  ])
})
