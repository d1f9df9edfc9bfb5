import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { StoryEvent } from '../../src/events.ts'
import { REDACTED, Redactor } from '../../src/jobs/redact.ts'

const TOKEN = `npm_4kQz7"w/x&<y>'z+é 9`
const redact = (text: string, ...secrets: string[]) => new Redactor(secrets).text(text)
const shell = (script: string, secret: string) =>
  execFileSync('sh', ['-c', script], { env: { ...process.env, S: secret }, encoding: 'utf8' })
const line = (text: string, more?: true, step = 1): StoryEvent => ({
  type: 'line',
  step,
  stream: 1,
  text,
  t: 1,
  ...(more && { more }),
})

describe('Redactor', () => {
  it.each([
    ['as it is', (s: string) => s],
    ['base64', (s: string) => Buffer.from(s).toString('base64')],
    ['base64url', (s: string) => Buffer.from(s).toString('base64url')],
    ['hex', (s: string) => Buffer.from(s).toString('hex')],
    ['upper case hex', (s: string) => Buffer.from(s).toString('hex').toUpperCase()],
    ['encodeURIComponent', encodeURIComponent],
    ['a form (+ for spaces)', (s: string) => new URLSearchParams({ s }).toString().slice(2)],
    ['JSON', (s: string) => JSON.stringify(s)],
    ['JSON in JSON', (s: string) => JSON.stringify(JSON.stringify(s)).slice(3, -3)],
    ['Go JSON', (s: string) => JSON.stringify(s).replace('&', '\\u0026').replace('<', '\\u003c').replace('>', '\\u003e')],
  ])('leaves nothing of a secret printed as %s', (_, encode) => {
    const printed = encode(TOKEN)
    const out = redact(`before ${printed} after, twice: ${printed}`, TOKEN)
    expect(out.replaceAll('"', '')).toBe(`before ${REDACTED} after, twice: ${REDACTED}`)
  })

  it.each([
    ['echo', 'echo "the token is $S."'],
    ['base64 of echo', 'echo "$S" | base64'],
    ['wrapped base64', 'printf %s "$S$S$S$S" | base64'],
    ['xxd-like hex', 'printf %s "$S" | od -An -v -tx1 | tr -d " \\n"'],
    ['set -x', 'exec 2>&1; set -x; true "$S"'],
    ['basic authorization', 'printf %s "user:$S" | base64 -w0'],
    ['basic authorization of a longer user', 'printf %s "users:$S:tail" | base64 -w0'],
    ['basic authorization of the third kind', 'printf %s "usersX:$S:tail" | base64 -w0'],
  ])('finds what a shell prints with %s', (what, script) => {
    const secret = what === 'wrapped base64' ? TOKEN.repeat(4) : TOKEN
    const out = redact(shell(what === 'wrapped base64' ? 'printf %s "$S" | base64' : script, secret), secret)
    expect(out).toContain(REDACTED)
    expect(decodings(out).some((text) => text.includes('4kQz7'))).toBe(false)
  })

  it('finds each longer line of a multi-line secret, and all of it within JSON', () => {
    const body = randomBytes(600)
      .toString('base64')
      .match(/.{1,64}/g)!
    const key = `-----BEGIN KEY-----\r\n${body.join('\r\n')}\r\n-----END KEY-----\r\n`
    const redactor = new Redactor([key])
    for (const part of body) expect(redactor.text(`+ ${part}`)).toBe(`+ ${REDACTED}`)
    expect(redactor.text(JSON.stringify({ key }))).not.toContain(body[0]!.slice(0, 12))
    for (const wrapped of shell('printf %s "$S" | base64', key).trim().split('\n').slice(0, -1))
      expect(redactor.text(wrapped)).toBe(REDACTED)
  })

  it('takes the longer of two secrets when one begins with the other, and secrets are never patterns', () => {
    expect(redact('x abcd-1234 abcd y', 'abcd', 'abcd-1234')).toBe(`x ${REDACTED} ${REDACTED} y`)
    expect(redact('a.*+?^$(){}|[]\\b aXXb', 'a.*+?^$(){}|[]\\b')).toBe(`${REDACTED} aXXb`)
  })

  it('replaces secrets under 4 characters only where they are the whole text', () => {
    expect(redact('exit code 1 of 123', '1', '123')).toBe('exit code 1 of 123')
    expect(redact(' 123\n', '1', '123')).toBe(REDACTED)
  })

  it('ignores empty and blank secrets, and hands events through untouched when there is nothing to do', () => {
    const event = line('some text')
    expect(new Redactor([]).event(event)).toBe(event)
    expect(new Redactor(['', ' \n']).event(event)).toBe(event)
    expect(new Redactor(['secret']).event(event)).toBe(event)
  })

  it('redacts every text of an event and none of its own words', () => {
    const redactor = new Redactor(['building', 'hunter22'])
    expect(redactor.event({ type: 'phase', phase: 'building', t: 1, detail: 'with hunter22' })).toEqual({
      type: 'phase',
      phase: 'building',
      t: 1,
      detail: `with ${REDACTED}`,
    })
    const texts = [
      { type: 'step', step: 1, name: 'RUN echo hunter22', state: 'started', t: 1 },
      { type: 'warning', step: 1, text: 'hunter22', t: 1 },
      { type: 'retry', t: 1, code: 'x', message: 'hunter22', attempt: 1, of: 3, inSeconds: 1 },
      { type: 'note', t: 1, level: 'info', text: 'hunter22' },
    ] satisfies StoryEvent[]
    for (const event of texts) expect(JSON.stringify(redactor.event(event))).not.toContain('hunter22')
  })

  it('is quick with hundreds of forms', () => {
    const key = `${randomBytes(2400).toString('base64').replace(/.{64}/g, '$&\n')}`
    const redactor = new Redactor([key, ...Array.from({ length: 10 }, () => randomBytes(30).toString('base64'))])
    const text = 'npm http fetch GET 200 https://registry.example.org/@scope%2fpackage 34ms (cache miss) '
    const before = performance.now()
    for (let i = 0; i < 50_000; i++) redactor.text(text)
    // 4.4 MB: 30 ms alone; a plain alternation of all forms takes ten times as long.
    expect(performance.now() - before).toBeLessThan(15_000)
  })
})

describe('a stream of events', () => {
  const secret = 'correct horse battery staple'
  const through = (events: StoryEvent[], ...secrets: string[]) => {
    const stream = new Redactor(secrets).stream()
    return [...events.map((event) => stream.event(event)), ...stream.end()]
  }
  const joined = (events: StoryEvent[]) => events.map((event) => ('text' in event ? event.text : '')).join('')

  it('finds a secret that is cut anywhere by the end of an event with more', () => {
    const text = `before ${secret} between ${secret}${secret} after`
    for (let cut = 1; cut < text.length; cut++) {
      const out = through([line(text.slice(0, cut), true), line(text.slice(cut))], secret)
      expect(joined(out)).toBe(`before ${REDACTED} between ${REDACTED}${REDACTED} after`)
      expect(out.map((event) => 'more' in event)).toEqual([true, false])
    }
  })

  it('finds one that is cut into single characters', () => {
    const text = `before ${secret} after`
    const out = through(
      [...text].map((char, i) => line(char, i < text.length - 1 || undefined)),
      secret,
      'bef',
    )
    expect(joined(out)).toBe(`before ${REDACTED} after`)
  })

  it('keeps steps apart, and gives at the end what was held back', () => {
    const out = through([line('correct horse ', true, 1), line('battery staple', undefined, 2), line('x', true, 3)], secret)
    expect(out.filter((event) => event.type === 'line' && event.step === 1).map(joinOne)).toEqual(['', 'correct horse '])
    expect(out.filter((event) => event.type === 'line' && event.step === 2).map(joinOne)).toEqual(['battery staple'])
    expect(out.at(-1)).not.toHaveProperty('more')
  })

  it('holds back no more than the longest form of a secret', () => {
    const stream = new Redactor([secret]).stream()
    let given = 0
    for (let i = 0; i < 100; i++) given += joinOne(stream.event(line('y'.repeat(10_000), true))).length
    expect(given).toBeGreaterThan(1_000_000 - 500)
  })

  const joinOne = (event: StoryEvent) => ('text' in event ? event.text : '')
})

/** The text, and what each run of base64 or hex in it stands for, at every offset. */
function decodings(text: string): string[] {
  const runs = text.replaceAll('\n', '').match(/[A-Za-z0-9+/=_-]{4,}/g) ?? []
  return [
    text,
    ...runs.flatMap((run) => [0, 1, 2, 3].map((from) => Buffer.from(run.slice(from), 'base64').toString('latin1'))),
    ...runs.flatMap((run) => [0, 1].map((from) => Buffer.from(run.slice(from), 'hex').toString('latin1'))),
  ]
}
