import { createHash, randomUUID } from 'node:crypto'
import { PutParameterCommand, SSMClient } from '@aws-sdk/client-ssm'
import { expect, test } from 'vitest'
import { makeFleet } from '../support/fleet.ts'
import { MOTO_REGION } from '../support/moto.ts'
import { formsOf, inFiles, inTexts, watchProcesses } from '../support/secret-hunt.ts'
import { tinyRoot } from '../support/tiny-root.ts'

const VALUE = 'ssm_Zq7"x/+&é<Kp2mW9vR4tY8'
const FORMS = formsOf(VALUE)
const IMAGES = '  web: { context: web, secrets: [{ id: npm_token, ssm: /shop/npm }] }'
const dockerfile = () =>
  [
    'FROM scratch',
    'COPY root /',
    `RUN --mount=type=secret,id=npm_token ["/bin/sh", "-c", "cat /run/secrets/npm_token; echo; sha256sum < /run/secrets/npm_token; sleep 1; : ${randomUUID()}"]`,
    '',
  ].join('\n')

test('a secret of SSM: refused by name while it is not there, then read on the worker and told nowhere', {
  timeout: 240_000,
}, async () => {
  const root = await tinyRoot('web/root', ['cat', 'sha256sum', 'sleep'])
  await using fleet = await makeFleet({ images: IMAGES, files: { ...root, 'web/Dockerfile': dockerfile() } })
  const worker = await fleet.worker('one', { env: { BAKE_SECRET_NPM_TOKEN: undefined } })

  const missing = await fleet.bake(['image', '--progress=plain'])
  expect(missing, missing.stderr).toMatchObject({ code: 2 })
  expect(missing.stderr).toContain('npm_token (/shop/npm)')
  expect(missing.stderr).toContain('aws ssm put-parameter --type SecureString --name /shop/npm')

  const ssm = new SSMClient({
    endpoint: fleet.moto.endpoint,
    region: MOTO_REGION,
    credentials: { accessKeyId: 'x', secretAccessKey: 'x' },
  })
  await ssm.send(new PutParameterCommand({ Name: '/shop/npm', Value: VALUE, Type: 'SecureString' }))
  ssm.destroy()
  await using watch = watchProcesses(FORMS)
  const built = await fleet.bake(['image', '--progress=plain'])
  const { hits, buildx } = await watch.stop()
  expect(built, built.stderr).toMatchObject({ code: 0 })
  expect(buildx, 'buildx was looked at').toBeGreaterThan(0)
  expect(hits).toEqual([])

  // The build had the value and printed it.
  const log = await fleet.bake(['logs', 'latest'])
  expect(log.stdout).toContain(createHash('sha256').update(VALUE).digest('hex'))
  const record = await fleet.bake(['build', 'latest', '--json'])
  const texts: Record<string, string> = { image: built.stdout + built.stderr, logs: log.stdout, build: record.stdout }
  texts.worker = [...worker.lines('stdout'), ...worker.lines('stderr')].join('\n')
  for (const key of await fleet.ledger.list('')) {
    const document = key.startsWith('logs/')
      ? Buffer.from((await fleet.ledger.chunk(...chunkOf(key))) ?? []).toString()
      : JSON.stringify(await fleet.ledger.get(key))
    texts[`ledger ${key}`] = document
  }
  expect(Object.keys(texts).length).toBeGreaterThan(8)
  expect(inTexts(texts, FORMS)).toEqual([])
  expect(await inFiles(fleet.home, FORMS)).toEqual([])
})

/** logs/<build>/<n>/<chunk> */
const chunkOf = (key: string): [string, number] => [
  key.slice(0, key.lastIndexOf('/')),
  Number(key.slice(key.lastIndexOf('/') + 1)),
]
