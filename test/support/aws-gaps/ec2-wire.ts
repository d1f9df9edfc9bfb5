import { randomUUID } from 'node:crypto'

/** EC2's protocol (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Query-Requests.html): forms go in, XML comes out. */
export interface Answer {
  status: number
  body: string
}

const NAMESPACE = 'http://ec2.amazonaws.com/doc/2016-11-15/'

export const escaped = (text: string): string => text.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`)

/** https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html */
export const refusal = (code: string, message: string, status = 400): Answer => ({
  status,
  body: `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>${code}</Code><Message>${escaped(message)}</Message></Error></Errors><RequestID>${randomUUID()}</RequestID></Response>`,
})

export const answerOf = (action: string, inner: string): Answer => ({
  status: 200,
  body: `<?xml version="1.0" encoding="UTF-8"?><${action}Response xmlns="${NAMESPACE}"><requestId>${randomUUID()}</requestId>${inner}</${action}Response>`,
})

/** Changes each item of a list that isn't inside of another one; undefined drops it. */
export function mapItems(xml: string, list: string, change: (item: string) => string | undefined): string {
  const start = xml.indexOf(`<${list}>`)
  const end = xml.lastIndexOf(`</${list}>`)
  if (start < 0 || end < 0) return xml
  const from = start + list.length + 2
  const items: string[] = []
  let depth = 0
  let begun = 0
  for (const { 0: tag, index } of xml.slice(from, end).matchAll(/<item>|<\/item>/g)) {
    if (tag === '<item>' && depth++ === 0) begun = from + index
    if (tag === '</item>' && --depth === 0) items.push(xml.slice(begun, from + index + tag.length))
  }
  return xml.slice(0, from) + items.map((item) => change(item) ?? '').join('') + xml.slice(end)
}

export const element = (xml: string, name: string): string | undefined => new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1]

/** Tags of `TagSpecification.n` for one kind. */
export function specifiedTags(form: URLSearchParams, kind: string): [string, string][] {
  const found: [string, string][] = []
  for (let n = 1; form.has(`TagSpecification.${n}.ResourceType`); n++) {
    if (form.get(`TagSpecification.${n}.ResourceType`) !== kind) continue
    for (let tag = 1; form.has(`TagSpecification.${n}.Tag.${tag}.Key`); tag++) {
      const at = `TagSpecification.${n}.Tag.${tag}`
      found.push([form.get(`${at}.Key`)!, form.get(`${at}.Value`) ?? ''])
    }
  }
  return found
}
