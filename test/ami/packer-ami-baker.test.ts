import { spawnSync } from 'node:child_process'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { parse } from 'yaml'
import { amiOfArtifact, amiVariables, type Ec2Place, packerAmiBaker } from '../../src/ami/packer-ami-baker.ts'
import { rootUserData } from '../../src/ami/root-user-data.ts'
import { ec2Place } from '../../src/context/ec2-place.ts'
import { amiPlan, serviceOf } from '../support/aws-plan.ts'

const RUN = { id: 'yd1z4qk2s-4f7kq2' }
const variables = (place: Ec2Place) => amiVariables(amiPlan(), RUN, { group: 'sg-1', key: '/dev/shm/key', place })

describe('Packer’s variables', () => {
  const always = {
    ami_name: 'bake-shop-dddddddddddd-yd1z4qk2s-4f7kq2',
    run: RUN.id,
    ssh_username: 'root',
    ssh_private_key_file: '/dev/shm/key',
    user_data_file: 'user-data',
    security_group_ids: ['sg-1'],
  }

  test('on AWS leave regions, metadata and addresses to it', () => {
    expect(variables({ emulated: false })).toEqual(always)
  })

  test('have an endpoint of a VPC’s own, which is no emulator', () => {
    const endpoint = 'https://vpce-1.ec2.eu-central-1.vpce.amazonaws.com'
    expect(variables({ endpoint, emulated: false })).toEqual({ ...always, endpoint_ec2: endpoint })
  })

  test('lead to what plays an emulator’s instances', () => {
    const endpoint = 'http://127.0.0.1:4566'
    expect(variables({ endpoint, emulated: true, ssh: { host: '127.0.0.1', port: 2222 } })).toEqual({
      ...always,
      endpoint_ec2: endpoint,
      skip_region_validation: true,
      skip_metadata_api_check: true,
      ssh_host: '127.0.0.1',
      ssh_port: 2222,
      loopback: '10.0.2.2',
    })
  })
})

describe('the artifact', () => {
  test('is one AMI of the region', () => {
    expect(amiOfArtifact('us-east-1:ami-0123456789abcdef0', 'us-east-1')).toBe('ami-0123456789abcdef0')
  })

  test.for(['', 'ami-01', 'eu-west-1:ami-01', 'us-east-1:ami-01,eu-west-1:ami-02', 'us-east-1:snap-01', 'us-east-1:ami-01\n'])(
    'is not %j',
    (artifact) => {
      expect(() => amiOfArtifact(artifact, 'us-east-1')).toThrow(/one AMI in us-east-1 was expected/)
    },
  )
})

describe('the user-data', () => {
  const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB bake'
  const text = rootUserData(key)
  const { users, ...rest } = parse(text)
  const line: string = users[1].ssh_authorized_keys[0]

  test('lets root in with the key, beside the distribution’s own user', () => {
    expect(text).toMatch(/^#cloud-config\n/)
    expect(rest).toEqual({ disable_root: false })
    expect(users).toEqual(['default', { name: 'root', ssh_authorized_keys: [line] }])
    expect(line).toMatch(new RegExp(`^command=".*" ${key}$`))
  })

  test('forces the command that was asked for, as sshd reads the option', () => {
    const option = /^command="((?:\\"|[^"])*)" /.exec(line)![1]!
    const asked = `set -e; printf '%s|' a "b c" '$HOME'; exit 7`
    const env = { PATH: process.env.PATH, SSH_ORIGINAL_COMMAND: asked }
    const { stdout, status } = spawnSync('bash', ['-c', option.replaceAll('\\"', '"')], { env, encoding: 'utf8' })
    expect({ stdout, status }).toEqual({ stdout: 'a|b c|$HOME|', status: 7 })
  })
})

test('images on this machine’s own loopback are refused before an instance of AWS would ask for them', async () => {
  const baker = packerAmiBaker({ place: { emulated: false } } as never)
  const reference = { image: 'web', repository: 'localhost:5000/shop/web', digest: `sha256:${'a'.repeat(64)}` }
  const plan = amiPlan({ services: [serviceOf('web', { reference })] })
  await expect(baker.prevalidate(plan, new AbortController().signal)).rejects.toMatchObject({
    code: 'registry_on_loopback',
    exit: 2,
    next: expect.stringContaining('registry:'),
  })
})

describe('where EC2 is', () => {
  afterEach(() => {
    vi.unstubAllEnvs()
  })
  const place = (env: Record<string, string>) => {
    for (const name of ['AWS_ENDPOINT_URL', 'AWS_ENDPOINT_URL_EC2', 'AWS_PROFILE']) vi.stubEnv(name, env[name] ?? '')
    return ec2Place(env)
  }

  test('is AWS’s own affair unless told', async () => {
    expect(await place({})).toEqual({ emulated: false })
  })

  test('is an emulator, with its instances’ SSH', async () => {
    const env = { AWS_ENDPOINT_URL: 'http://localhost:1', AWS_ENDPOINT_URL_EC2: 'http://localhost:2' }
    expect(await place({ ...env, BAKE_EC2_SSH: 'vm.local:2222' })).toEqual({
      endpoint: 'http://localhost:2',
      emulated: true,
      ssh: { host: 'vm.local', port: 2222 },
    })
  })

  test.for([
    [{ BAKE_EC2_SSH: '127.0.0.1:2222' }, /is for emulators/],
    [{ AWS_ENDPOINT_URL: 'https://ec2.example.com', BAKE_EC2_SSH: '127.0.0.1:2222' }, /is for emulators/],
    [{ AWS_ENDPOINT_URL: 'http://localhost:1', BAKE_EC2_SSH: '127.0.0.1' }, /is not host:port/],
    [{ AWS_ENDPOINT_URL: 'http://localhost:1', BAKE_EC2_SSH: 'a:99999' }, /is not host:port/],
  ] as const)('%j is refused', async ([env, message]) => {
    await expect(place(env)).rejects.toMatchObject({ code: 'bad_setting', exit: 2, message: expect.stringMatching(message) })
  })
})
