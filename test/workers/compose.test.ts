import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { readWorkersFile, workersFile } from './template.ts'

describe('workers/compose.yaml', () => {
  test('is a fleet: AWS, a registry, and workers with engines of their own', () => {
    const { services } = config({ BAKE_PROJECT: '/srv/shop' })
    expect(Object.keys(services).sort()).toEqual(['aws', 'registry', 'setup', 'worker'])
    const { worker } = services
    expect(worker).toMatchObject({ privileged: true, working_dir: '/srv/shop', build: { target: 'engine' } })
    // Without a source each replica has its own.
    const own = worker.volumes.filter(({ type }: { type: string }) => type === 'volume')
    expect(own).toEqual(['/var/lib/docker', '/var/lib/bake'].map((target) => ({ type: 'volume', target, volume: {} })))
    expect(services.setup.privileged ?? false).toBe(false)
  })

  test('is reached from this machine alone', () => {
    for (const { ports = [] } of Object.values(config({ BAKE_PROJECT: '/srv/shop' }).services) as { ports?: object[] }[])
      for (const port of ports) expect(port).toMatchObject({ host_ip: '127.0.0.1' })
  })

  test('has the same addresses inside as on this machine', () => {
    const ports = { BAKE_AWS_PORT: '1234', BAKE_REGISTRY_PORT: '2345' }
    const { environment } = config({ BAKE_PROJECT: '/srv/shop', ...ports }).services.worker
    expect(environment).toMatchObject({
      AWS_ENDPOINT_URL: 'http://localhost:1234',
      BAKE_FORWARD: '2345=registry:5000 1234=aws:5000',
    })
  })

  test('waits for a drain longer than that may take', () => {
    const { environment, stop_grace_period } = config({ BAKE_PROJECT: '/srv/shop' }).services.worker
    expect(stop_grace_period).toBe('10m0s')
    expect(Number(environment.BAKE_DRAIN_SECONDS)).toBeLessThan(600)
  })

  test('asks for the project', () => {
    const { status, stderr } = compose({})
    expect(status).not.toBe(0)
    expect(stderr).toContain('the directory of bake.yaml, absolute')
  })

  test('takes every image from the environment, so that no public registry is needed', () => {
    const text = readWorkersFile('compose.yaml')
    for (const [, image] of text.matchAll(/^\s+image: (.*)$/gm)) expect(image).toMatch(/^\$\{BAKE_[A-Z]+_IMAGE:-/)
  })
})

function compose(env: Record<string, string>) {
  const args = ['compose', '--file', workersFile('compose.yaml'), 'config', '--format', 'json']
  const plain = Object.entries(process.env).filter(([name]) => !name.startsWith('BAKE_') && !name.startsWith('AWS_'))
  return spawnSync('docker', args, { encoding: 'utf8', env: { ...Object.fromEntries(plain), ...env } })
}

function config(env: Record<string, string>) {
  const { status, stdout, stderr } = compose(env)
  expect(status, stderr).toBe(0)
  return JSON.parse(stdout)
}
