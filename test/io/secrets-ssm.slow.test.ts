import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PutParameterCommand, SSMClient } from '@aws-sdk/client-ssm'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { materialiseSecrets } from '../../src/io/secrets.ts'
import { ssmParameters } from '../../src/io/secrets-ssm.ts'
import { type AwsFault, type AwsProxy, startAwsProxy } from '../support/aws-faults.ts'
import { MOTO_REGION, type Moto, startMoto } from '../support/moto.ts'

let moto: Moto
let proxy: AwsProxy
let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'bake-ssm-'))
  moto = await startMoto()
  proxy = await startAwsProxy(moto.endpoint)
  Object.assign(process.env, moto.env, { AWS_ENDPOINT_URL: proxy.endpoint })
  const client = new SSMClient({ endpoint: moto.endpoint, region: MOTO_REGION })
  for (const [Name, Value] of [
    ['/shop/npm', 'npm_s3cret'],
    ['/shop/pem', '-----BEGIN-----\nabc\n-----END-----\n'],
    ['/shop/blank', ' '],
  ])
    await client.send(new PutParameterCommand({ Name, Value, Type: 'SecureString' }))
  client.destroy()
})
afterEach(() => proxy.heal())
afterAll(async () => {
  await proxy[Symbol.asyncDispose]()
  await moto[Symbol.asyncDispose]()
  await rm(dir, { recursive: true })
})
const materialise = (...sources: { id: string; ssm?: string }[]) =>
  materialiseSecrets(sources, { env: {}, dir, parameters: ssmParameters(MOTO_REGION) })

describe('secrets in SSM', () => {
  it('arrive decrypted in files that nobody else may read, and as values to redact', async () => {
    {
      await using secrets = await materialise({ id: 'npm_token', ssm: '/shop/npm' }, { id: 'key.pem', ssm: '/shop/pem' })
      expect(await readFile(secrets.files.npm_token!, 'utf8')).toBe('npm_s3cret')
      expect(secrets.values).toEqual(['npm_s3cret', '-----BEGIN-----\nabc\n-----END-----\n'])
    }
    expect(await readdir(dir)).toEqual([])
  })

  it('that are not there or blank are named at once, with how to put them there', async () => {
    await expect(
      materialise({ id: 'a', ssm: '/shop/none' }, { id: 'b', ssm: '/shop/blank' }, { id: 'c', ssm: '/shop/npm' }, { id: 'd' }),
    ).rejects.toMatchObject({
      code: 'secret_not_set',
      kind: 'user',
      exit: 2,
      message: expect.stringMatching(/a \(\/shop\/none\), b \(\/shop\/blank\), d$/),
      next: expect.stringMatching(/BAKE_SECRET_D.*aws ssm put-parameter --type SecureString --name \/shop\/none /),
    })
    expect(await readdir(dir)).toEqual([])
  })

  it.each([
    ['the parameter', { status: 400, code: 'AccessDeniedException' }],
    ['the key it is encrypted with', { status: 400, code: 'InvalidKeyId' }],
  ] satisfies [string, AwsFault][])('that the worker may not read, for want of %s, are told so', async (_, fault) => {
    proxy.inject({ service: 'ssm' }, fault)
    await expect(materialise({ id: 'npm_token', ssm: '/shop/npm' })).rejects.toMatchObject({
      code: 'secret_denied',
      kind: 'user',
      exit: 2,
      ids: { parameter: '/shop/npm', region: MOTO_REGION },
      next: expect.stringContaining('ssm:GetParameter'),
    })
  })

  it('survive throttling, and an SSM that is down is the world’s failure', async () => {
    proxy.inject({ service: 'ssm' }, { status: 400, code: 'ThrottlingException' }, 1)
    await using secrets = await materialise({ id: 'npm_token', ssm: '/shop/npm' })
    expect(secrets.values).toEqual(['npm_s3cret'])
    proxy.inject({ service: 'ssm' }, { status: 500, code: 'InternalServerError' })
    const down = { code: 'secrets_unreachable', kind: 'world', exit: 4 }
    await expect(materialise({ id: 'npm_token', ssm: '/shop/npm' })).rejects.toMatchObject(down)
  })

  it('need a region', async () => {
    const parameters = ssmParameters('')
    await expect(materialiseSecrets([{ id: 'a', ssm: '/a' }], { env: {}, dir, parameters })).rejects.toMatchObject({
      code: 'secret_region',
      exit: 2,
      next: expect.stringContaining('AWS_REGION'),
    })
  })
})
