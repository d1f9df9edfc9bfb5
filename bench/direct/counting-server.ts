/**
 * A server in a process of its own that takes PutSnapshotBlock, counts, and keeps nothing: `counting-server.ts [KEY CERTIFICATE]`, with which it speaks HTTPS. First line of stdout: its
 * port. On SIGUSR2 a line `{ blocks, bytes, cpuMs }`, since it began.
 */
import { readFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createSecure } from 'node:https'

const [key, certificate] = process.argv.slice(2)
let blocks = 0
let bytes = 0
const answer: RequestListener = (request, response) => {
  let length = 0
  request.on('data', (data: Buffer) => {
    length += data.length
  })
  request.on('end', () => {
    bytes += length
    const isPut = request.method === 'PUT' && length === 524_288
    if (isPut) blocks++
    const started = { SnapshotId: 'snap-0123456789abcdef0', BlockSize: 524_288, Status: 'pending' }
    const headers = {
      'content-type': 'application/json',
      'x-amz-checksum': String(request.headers['x-amz-checksum'] ?? ''),
      'x-amz-checksum-algorithm': 'SHA256',
    }
    response.writeHead(isPut ? 201 : 202, headers).end(isPut ? '{}' : JSON.stringify(started))
  })
}
const server =
  key === undefined || certificate === undefined
    ? createServer(answer)
    : createSecure({ key: readFileSync(key), cert: readFileSync(certificate) }, answer)
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  process.stdout.write(`${address.port}\n`)
})
process.on('SIGUSR2', () => {
  const { user, system } = process.cpuUsage()
  process.stdout.write(`${JSON.stringify({ blocks, bytes, cpuMs: Math.round((user + system) / 1000) })}\n`)
})
