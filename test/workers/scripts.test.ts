import { execFileSync, spawnSync } from 'node:child_process'
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { packageFile } from '../../src/package-root.ts'
import { readWorkersFile, workersFile } from './template.ts'

const HELPER = [packageFile('templates/direct/helper.sh'), packageFile('templates/direct/change.sh')]
const demo = fileURLToPath(new URL('../../bin/fleet-demo', import.meta.url))

test.each([workersFile('user-data.sh'), workersFile('with-engine'), ...HELPER, demo])(
  'shellcheck has nothing to say about %s',
  (file) => {
    expect(execFileSync('shellcheck', ['--', file], { encoding: 'utf8' })).toBe('')
  },
)

describe('workers/bake-worker.service', () => {
  const unit = readWorkersFile('bake-worker.service')
  const value = (name: string): string => {
    const found = [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))]
    expect(found, name).toHaveLength(1)
    return found[0]![1]!
  }

  test('gives a drain the time that it may take', () => {
    const drain = Number(/BAKE_DRAIN_SECONDS=(\d+)/.exec(unit)![1])
    expect(Number(/^(\d+)s$/.exec(value('TimeoutStopSec'))![1])).toBeGreaterThan(drain)
  })

  test('stops the worker first, and never gives it up', () => {
    expect(value('KillMode')).toBe('mixed')
    expect(value('KillSignal')).toBe('SIGTERM')
    expect(value('Restart')).toBe('always')
    expect(value('StartLimitIntervalSec')).toBe('0')
  })

  test('has the paths that user-data.sh prepares', () => {
    const script = readWorkersFile('user-data.sh')
    expect(script).toContain('home=/opt/bake\n')
    expect(value('ExecStart')).toBe('/opt/bake/bin/bake worker')
    for (const path of [value('EnvironmentFile'), value('WorkingDirectory'), value('ReadWritePaths')])
      expect(script).toMatch(new RegExp(`${path}\\b`))
  })

  test('has a drop-in for direct bakes that gives back no more than a device', () => {
    const dropIn = readWorkersFile('direct-bakes.conf')
    const service = Object.fromEntries(
      [...dropIn.slice(dropIn.indexOf('[Service]')).matchAll(/^(\w+)=(.*)$/gm)].map(([, name, to]) => [name, to]),
    )
    expect(service).toEqual({
      SupplementaryGroups: 'kvm',
      PrivateDevices: 'no',
      DevicePolicy: 'closed',
      DeviceAllow: '/dev/kvm rw',
    })
  })

  const found = spawnSync('systemd-analyze', ['--version']).status === 0
  describe.skipIf(!found)('to systemd, which has to be installed for this', () => {
    const analyze = (args: string[], dropIn?: string) => {
      const dir = mkdtempSync(join(tmpdir(), 'bake-unit-'))
      try {
        const file = join(dir, 'bake-worker.service')
        if (dropIn !== undefined) {
          mkdirSync(`${file}.d`)
          writeFileSync(join(`${file}.d`, 'direct-bakes.conf'), dropIn)
        }
        // It looks whether the program is there.
        writeFileSync(file, unit.replace(/^ExecStart=\S+/m, 'ExecStart=/bin/true'))
        const { status, stdout, stderr } = spawnSync('systemd-analyze', [...args, file], { encoding: 'utf8' })
        return { status, stdout, stderr }
      } finally {
        rmSync(dir, { recursive: true })
      }
    }

    test('is a unit without a fault', () => {
      expect(analyze(['verify', '--man=no'])).toEqual({ status: 0, stdout: '', stderr: '' })
    })

    test('exposes little', () => {
      // In tenths; a service without any hardening has 96.
      const { status, stdout } = analyze(['security', '--offline=yes', '--threshold=35', '--no-pager'])
      expect(status, stdout).toBe(0)
    })

    test('has a drop-in for direct bakes, which has no fault and exposes little more', () => {
      const dropIn = readWorkersFile('direct-bakes.conf')
      expect(analyze(['verify', '--man=no'], dropIn)).toEqual({ status: 0, stdout: '', stderr: '' })
      const { status, stdout } = analyze(['security', '--offline=yes', '--threshold=40', '--no-pager'], dropIn)
      expect(status, stdout).toBe(0)
    })
  })
})

describe('workers/bake-disk@.service', () => {
  const unit = readWorkersFile('bake-disk@.service')

  test('starts the helper where user-data.sh installs it, for the worker’s user', () => {
    const [, path] = /^ExecStart=\/opt\/bake\/lib\/node_modules\/bakehouse\/(.+)$/m.exec(unit)!
    expect(packageFile(path!)).toBe(HELPER[0])
    accessSync(packageFile(path!), constants.X_OK)
    expect(unit).toContain(`BAKE_DISK_USER=${/^User=(.+)$/m.exec(readWorkersFile('bake-worker.service'))![1]}\n`)
  })

  const found = spawnSync('systemd-analyze', ['--version']).status === 0
  test.skipIf(!found)('is no fault to systemd, with its socket', () => {
    const dir = mkdtempSync(join(tmpdir(), 'bake-unit-'))
    try {
      const files = ['bake-disk.socket', 'bake-disk@.service'].map((name) => join(dir, name))
      writeFileSync(files[0]!, readWorkersFile('bake-disk.socket').replace('SocketGroup=bake', 'SocketGroup=root'))
      writeFileSync(files[1]!, unit.replace(/^ExecStart=.+/m, 'ExecStart=/bin/true'))
      const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', files[0]!], { encoding: 'utf8' })
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' })
    } finally {
      rmSync(dir, { recursive: true })
    }
  })
})
