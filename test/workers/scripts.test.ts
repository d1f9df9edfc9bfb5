import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { readWorkersFile, workersFile } from './template.ts'

const demo = fileURLToPath(new URL('../../bin/fleet-demo', import.meta.url))

test.each([workersFile('user-data.sh'), workersFile('with-engine'), demo])('shellcheck has nothing to say about %s', (file) => {
  expect(execFileSync('shellcheck', ['--', file], { encoding: 'utf8' })).toBe('')
})

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

  test('has a drop-in for direct bakes that takes back what forbids mounts, devices and namespaces', () => {
    const dropIn = readWorkersFile('direct-bakes.conf')
    const settings = Object.fromEntries([...dropIn.matchAll(/^(\w+)=(.*)$/gm)].map(([, name, to]) => [name, to]))
    expect(settings).toMatchObject({ User: 'root', CapabilityBoundingSet: '~', NoNewPrivileges: 'no', RestrictNamespaces: 'no' })
    expect(settings).toMatchObject({
      PrivateDevices: 'no',
      ProtectClock: 'no',
      ProtectControlGroups: 'no',
      RestrictSUIDSGID: 'no',
    })
    // What it names is the unit's own, under the same name.
    for (const name of Object.keys(settings)) value(name)
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

    test('has a drop-in without a fault for direct bakes', () => {
      expect(analyze(['verify', '--man=no'], readWorkersFile('direct-bakes.conf'))).toEqual({ status: 0, stdout: '', stderr: '' })
    })
  })
})
