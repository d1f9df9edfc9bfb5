import { expect, test } from 'vitest'
import { checkSource, localPath, redactUrl } from '../../src/io/sources.ts'

const taken = [
  'https://github.com/acme/shop.git',
  'https://host:8443/a/b',
  'ssh://git@github.com/acme/shop.git',
  'ssh://host:2222/srv/shop',
  'git@github.com:acme/shop.git',
  'alias:shop',
  'git@[::1]:shop.git',
]

test.each(taken)('takes %s', (source) => {
  expect(() => checkSource(source, { allowLocal: false })).not.toThrow()
})

const refusals = [
  '',
  '-oProxyCommand=touch /tmp/x',
  '--upload-pack=touch /tmp/x',
  'ext::sh -c touch% /tmp/x',
  'EXT::sh -c id',
  'fd::3',
  'git@host::x',
  'http://host/x',
  'git://host/x',
  'ftp://host/x',
  'https://user:secret@host/x',
  'https://ghp_token@host/x',
  'ssh://git:secret@host/x',
  'ssh://-oProxyCommand=id/x',
  'ssh://-x@host/x',
  '-x@host:path',
  '-host:path',
  'host:-path',
  'https://host',
  'https:///x',
  'https://host/a%0ahost=evil',
  'https://host/a\nb',
  'git@host:a\0b',
  'relative/path',
  './here',
  'file://host/share',
]

test.each(refusals)('refuses %j', (source) => {
  for (const allowLocal of [true, false])
    expect(() => checkSource(source, { allowLocal })).toThrow(expect.objectContaining({ code: 'bad_repository', exit: 2 }))
})

test('takes a path on this machine only where that is allowed', () => {
  for (const source of ['/srv/shop', '/srv/with space/ünï:x', 'file:///srv/shop']) {
    expect(() => checkSource(source, { allowLocal: true })).not.toThrow()
    expect(() => checkSource(source, { allowLocal: false })).toThrow(expect.objectContaining({ code: 'bad_repository' }))
  }
  expect(localPath('file:///srv/a%20b')).toBe('/srv/a b')
})

test('never repeats a credential', () => {
  const error = (() => {
    try {
      checkSource('https://ann:hunter2@host/x', { allowLocal: false })
    } catch (caught) {
      return caught
    }
  })() as Error & { ids: object; next: string }
  expect(error.message + error.next + JSON.stringify(error.ids)).not.toContain('hunter2')
  expect(redactUrl("unable to access 'https://tok@host/x': no, ssh://a:b@h/y")).toBe(
    "unable to access 'https://***@host/x': no, ssh://***@h/y",
  )
})
