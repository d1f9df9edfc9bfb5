import { createHash, createHmac } from 'node:crypto'

export interface AwsCredentials {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string | undefined
}

export interface UnsignedRequest {
  method: string
  /** As it is sent, without a query, with nothing in it that needs escapes. */
  path: string
  /** All that are signed, `host` among them, in lower case. */
  headers: Readonly<Record<string, string>>
  /** SHA-256 of the body, hex. */
  bodySha256: string
}

export interface SigningScope {
  region: string
  service: string
  credentials: AwsCredentials
  /** ms since the epoch, by AWS's clock. */
  at: number
}

/**
 * Headers of a request with Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
 * For the one call of which there are thousands; all others are signed by the SDK.
 */
export function signed({ method, path, headers, bodySha256 }: UnsignedRequest, scope: SigningScope): Record<string, string> {
  const { region, service, credentials, at } = scope
  const time = new Date(at).toISOString().replace(/[-:]|\.\d+/g, '')
  const date = time.slice(0, 8)
  const all: Record<string, string> = {
    ...headers,
    'x-amz-date': time,
    'x-amz-content-sha256': bodySha256,
    ...(credentials.sessionToken !== undefined && { 'x-amz-security-token': credentials.sessionToken }),
  }
  const names = Object.keys(all).sort()
  const lines = names.map((name) => `${name}:${all[name]!.trim().replace(/ +/g, ' ')}\n`).join('')
  const canonical = [method, path, '', lines, names.join(';'), bodySha256].join('\n')
  const place = `${date}/${region}/${service}/aws4_request`
  const toSign = ['AWS4-HMAC-SHA256', time, place, createHash('sha256').update(canonical).digest('hex')].join('\n')
  const key = [date, region, service, 'aws4_request'].reduce<string | Buffer>(
    (previous, part) => createHmac('sha256', previous).update(part).digest(),
    `AWS4${credentials.secretAccessKey}`,
  )
  const signature = createHmac('sha256', key).update(toSign).digest('hex')
  const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${place}, SignedHeaders=${names.join(';')}, Signature=${signature}`
  return { ...all, authorization }
}
