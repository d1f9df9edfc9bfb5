import { expect, test } from 'vitest'
import { serveStatus } from '../../src/io/http-status.ts'

const routes = {
  '/healthz': async () => ({ status: 503, type: 'application/json', body: '{"status":"unhealthy"}\n' }),
  '/metrics': () => Promise.reject(new Error('no numbers today')),
}

test('answers what there is, and nothing else', async () => {
  await using server = await serveStatus('127.0.0.1:0', routes)
  const health = await fetch(`${server.url}/healthz?x=1`)
  expect([health.status, health.headers.get('content-type'), await health.json()]).toEqual([
    503,
    'application/json',
    { status: 'unhealthy' },
  ])
  expect(health.headers.get('cache-control')).toBe('no-store')
  const head = await fetch(`${server.url}/healthz`, { method: 'HEAD' })
  expect([head.status, await head.text()]).toEqual([503, ''])
  expect((await fetch(`${server.url}/metrics`)).status).toBe(500)
  expect((await fetch(`${server.url}/other`)).status).toBe(404)
  expect((await fetch(`${server.url}/__proto__`)).status).toBe(404)
  expect((await fetch(`${server.url}/healthz`, { method: 'POST', body: 'x' })).status).toBe(405)
})

test('listens where it is told: IPv6 and every address too', async () => {
  await using six = await serveStatus('[::1]:0', routes)
  expect(six.url).toMatch(/^http:\/\/\[::1\]:\d+$/)
  expect((await fetch(`${six.url}/healthz`)).status).toBe(503)
  await using every = await serveStatus(':0', routes)
  expect((await fetch(`http://127.0.0.1:${new URL(every.url).port}/healthz`)).status).toBe(503)
})

test.each(['9464', '127.0.0.1', '127.0.0.1:99999', '127.0.0.1:x', 'http://127.0.0.1:1', '-x:1 '])(
  '%s is no address: refused with how to write one',
  async (listen) => {
    await expect(serveStatus(listen, routes)).rejects.toMatchObject({
      code: 'bad_setting',
      exit: 2,
      next: expect.stringContaining('127.0.0.1:9464'),
    })
  },
)

test('a port that is taken', async () => {
  await using server = await serveStatus('127.0.0.1:0', routes)
  await expect(serveStatus(new URL(server.url).host, routes)).rejects.toMatchObject({ code: 'port_taken', exit: 4 })
})
