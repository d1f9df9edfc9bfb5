import { createServer, type IncomingHttpHeaders } from 'node:http'
import { EBSClient, PutSnapshotBlockCommand } from '@aws-sdk/client-ebs'
import { expect, test } from 'vitest'
import { signed } from '../../src/io/sigv4.ts'
import { serve } from '../support/serve.ts'

test.for([undefined, 'a/session+token=='])(
  'a request is signed as the SDK signs it (session token: %s)',
  async (sessionToken) => {
    const seen: { path: string; headers: IncomingHttpHeaders }[] = []
    const server = createServer((request, response) => {
      seen.push({ path: request.url ?? '', headers: request.headers })
      request.resume().on('end', () => response.writeHead(201, { 'content-type': 'application/json' }).end('{}'))
    })
    const { endpoint, close } = await serve(server)
    const credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalr/+=', ...(sessionToken && { sessionToken }) }
    const client = new EBSClient({ region: 'eu-central-1', endpoint, credentials, maxAttempts: 1 })
    const put = { SnapshotId: 'snap-0123456789abcdef0', BlockIndex: 7, DataLength: 524_288, Progress: 3 }
    const checksum = { Checksum: 'A+/=', ChecksumAlgorithm: 'SHA256' as const }
    await client.send(new PutSnapshotBlockCommand({ ...put, ...checksum, BlockData: Buffer.alloc(524_288) }))
    client.destroy()
    await close()
    const [{ path, headers }] = seen as [(typeof seen)[number]]
    const authorization = headers.authorization!
    const names = /SignedHeaders=([^,]+)/.exec(authorization)![1]!.split(';')
    const made = ['x-amz-date', 'x-amz-content-sha256', 'x-amz-security-token']
    const given = Object.fromEntries(names.filter((name) => !made.includes(name)).map((name) => [name, String(headers[name])]))
    const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(
      String(headers['x-amz-date']),
    )!
    const at = Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second))
    const request = { method: 'PUT', path, headers: given, bodySha256: String(headers['x-amz-content-sha256']) }
    const ours = signed(request, { region: 'eu-central-1', service: 'ebs', credentials, at })
    expect(names).toContain('x-amz-checksum')
    expect(ours.authorization).toBe(authorization)
  },
)
