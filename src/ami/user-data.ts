import { gunzipSync, gzipSync } from 'node:zlib'

/** EC2's limit, before base64: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html */
const MAX_BYTES = 16_384
const LINES = /^#bake(?:-proof [A-Za-z0-9+/=]+| (?:[a-z]+=\S+ ?)+)(?:\r?\n|$)/gm
const GZIP = Buffer.from([0x1f, 0x8b])
/** Of a line of base64, as in MIME. */
const COLUMNS = 76

/** What bake tells an instance, in comments that bake-instance.service reads. */
export interface BakeLine {
  release?: string
  /** Full commit id. */
  sha?: string
  proof?: 'console'
}

/**
 * User-data with bake's lines at its end, in place of those that are there: comments in shell scripts, cloud-config, boothooks, jinja templates and include
 * files, and nobody looks behind the last boundary of a MIME message. Packed if it was, or if it would be too long; cloud-init and bake-instance.service
 * unpack it. `script`: what runs on a machine that proves itself. Undefined: it can't carry them.
 */
export function withBakeLine(userData: Buffer | undefined, values: BakeLine, script?: string): Buffer | undefined {
  const words = Object.entries(values).map(([key, value]) => `${key}=${value}`)
  const encoded = script === undefined ? '' : Buffer.from(script).toString('base64')
  const pieces = encoded.match(new RegExp(`.{1,${COLUMNS}}`, 'g')) ?? []
  const lines = [`#bake ${words.join(' ')}`, ...pieces.map((piece) => `#bake-proof ${piece}`), ''].join('\n')
  const packed = userData?.subarray(0, 2).equals(GZIP) === true
  const before = packed ? unpacked(userData) : userData
  if (packed && before === undefined) return undefined
  const kept = before === undefined || before.length === 0 ? '#cloud-config\n' : before.toString('latin1').replace(LINES, '')
  const text = Buffer.from(`${kept}${kept.endsWith('\n') ? '' : '\n'}${lines}`, 'latin1')
  const sent = packed || text.length > MAX_BYTES ? gzipSync(text, { level: 9 }) : text
  return sent.length <= MAX_BYTES ? sent : undefined
}

function unpacked(data: Buffer): Buffer | undefined {
  try {
    return gunzipSync(data)
  } catch {
    return undefined
  }
}
