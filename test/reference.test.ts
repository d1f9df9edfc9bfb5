import { describe, expect, test } from 'vitest'
import { contextName, formatReference, parseReference } from '../src/reference.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`

describe('parseReference', () => {
  test.each([
    ['alpine', 'docker.io/library/alpine:latest'],
    ['alpine:3.20', 'docker.io/library/alpine:3.20'],
    ['acme/web', 'docker.io/acme/web:latest'],
    ['docker.io/alpine', 'docker.io/library/alpine:latest'],
    ['index.docker.io/library/alpine', 'docker.io/library/alpine:latest'],
    ['localhost/web', 'localhost/web:latest'],
    ['localhost:5000/web:1', 'localhost:5000/web:1'],
    ['127.0.0.1:5000/team/web', '127.0.0.1:5000/team/web:latest'],
    ['[::1]:5000/web:1', '[::1]:5000/web:1'],
    ['ghcr.io/a/b/c-d_e.f__g:V1.2_x', 'ghcr.io/a/b/c-d_e.f__g:V1.2_x'],
    ['MYHOST/web', 'MYHOST/web:latest'],
    [`alpine@${DIGEST}`, `docker.io/library/alpine@${DIGEST}`],
    [`alpine:3@${DIGEST}`, `docker.io/library/alpine:3@${DIGEST}`],
    ['123456789012.dkr.ecr.us-east-1.amazonaws.com/shop/web', '123456789012.dkr.ecr.us-east-1.amazonaws.com/shop/web:latest'],
  ])('%s is %s', (text, full) => {
    expect(formatReference(parseReference(text))).toBe(full)
    expect(parseReference(full)).toEqual(parseReference(text))
  })

  test.each([
    '',
    'Alpine',
    ':1',
    'a:',
    'a b',
    '-x',
    'a//b',
    '/a',
    'a/',
    'a@sha256:abc',
    `a@md5:${'a'.repeat(32)}`,
    'https://ghcr.io/a',
    'ghcr.io/',
    'a:b:c',
    `a:${'t'.repeat(129)}`,
    'f'.repeat(256),
    'a'.repeat(64),
    'a\nb',
    '../a',
  ])('%j is refused as bad_reference', (text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: 'bad_reference', exit: 2 }))
  })
})

test.each([
  ['alpine', 'alpine'],
  ['docker.io/library/alpine:latest', 'alpine'],
  ['alpine:3', 'alpine:3'],
  ['docker.io/acme/web', 'acme/web'],
  ['ghcr.io/acme/web:latest', 'ghcr.io/acme/web'],
  ['Not a name', undefined],
])('the named context %s is looked up as %s', (text, name) => {
  expect(contextName(text)).toBe(name)
})
