import { createHmac, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { parseWebhookSecrets, postWebhook, signatureHeaders } from '../../src/io/webhook.ts'
import { startHookServer } from '../support/hook-server.ts'

const signal = new AbortController().signal

describe('a signature', () => {
  test('is that of the specification’s example', () => {
    // The test vector of the Standard Webhooks reference libraries.
    const [secret] = parseWebhookSecrets('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')!
    expect(signatureHeaders('msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232314}', [secret!])).toEqual({
      'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    })
  })

  test('is there once for each secret, and over the very bytes that arrive', async () => {
    await using server = await startHookServer()
    const secrets = [randomBytes(24), randomBytes(64)]
    const body = JSON.stringify({ text: 'Grüße ✅' })
    await postWebhook({ url: `${server.url}/x?y=1`, body, signed: { id: 'bake_1', secrets }, signal })
    const { headers, path, body: arrived } = server.calls[0]!
    expect(path).toBe('/x?y=1')
    expect(arrived).toBe(body)
    expect(headers['content-type']).toBe('application/json; charset=utf-8')
    expect(Math.abs(Number(headers['webhook-timestamp']) - Date.now() / 1000)).toBeLessThan(60)
    const content = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${arrived}`
    const expected = secrets.map((secret) => `v1,${createHmac('sha256', secret).update(content).digest('base64')}`)
    expect(headers['webhook-signature']).toBe(expected.join(' '))
  })

  test.each(['', 'secret', 'whsec_', 'whsec_AAAA', 'whsec_not base64!', `whsec_${'A'.repeat(200)}`])(
    'takes no secret %j',
    (text) => {
      expect(parseWebhookSecrets(text)).toBeUndefined()
    },
  )
})

describe('an answer', () => {
  const post = async (status: number, text = 'no_service') => {
    await using server = await startHookServer((_, response) => void response.writeHead(status, { location: '/y' }).end(text))
    const error = await postWebhook({ url: `${server.url}/services/SECRET`, body: '{}', signal }).catch((caught) => caught)
    return { error, calls: server.calls.length }
  }

  test.each([200, 202, 204])('%i is taken', async (status) => {
    expect(await post(status)).toEqual({ error: undefined, calls: 1 })
  })

  test.each([500, 503, 429, 408])('%i may be mended by another try', async (status) => {
    expect(await post(status)).toMatchObject({ error: { kind: 'world', code: 'webhook_failed' }, calls: 1 })
  })

  test.each([400, 404, 410, 302])('%i will not, and a redirect is not followed', async (status) => {
    const { error, calls } = await post(status)
    expect(error).toMatchObject({ kind: 'user', code: 'webhook_refused' })
    expect(error.message).toMatch(new RegExp(`^127\\.0\\.0\\.1:\\d+ answered ${status} \\(no_service\\)$`))
    expect(calls).toBe(1)
  })

  test('that never comes is waited for as long as it may take', async () => {
    await using server = await startHookServer(() => {})
    const error = await postWebhook({ url: `${server.url}/SECRET`, body: '{}', signal, timeoutMs: 200 }).catch((caught) => caught)
    expect(error).toMatchObject({ kind: 'world', message: expect.stringMatching(/did not answer within 0\.2 s$/) })
  })

  test('from nobody names the host and nothing of the rest', async () => {
    const server = await startHookServer()
    await server[Symbol.asyncDispose]()
    const error = await postWebhook({ url: `${server.url}/SECRET?t=SECRET`, body: '{}', signal }).catch((caught) => caught)
    expect(error).toMatchObject({ kind: 'world', message: expect.stringMatching(/can't be reached: ECONNREFUSED$/) })
    expect(JSON.stringify([error.message, error.next, error.ids])).not.toContain('SECRET')
  })

  test('is not waited for when the signal comes', async () => {
    await using server = await startHookServer(() => {})
    const stop = new AbortController()
    const post = postWebhook({ url: server.url, body: '{}', signal: stop.signal })
    await server.called(1)
    stop.abort(new Error('stopped'))
    await expect(post).rejects.toThrow('stopped')
  })
})
