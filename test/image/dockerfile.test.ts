// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of Dockerfiles
import { describe, expect, test } from 'vitest'
import { type AnalyseOptions, analyse, pinDockerfile } from '../../src/image/dockerfile.ts'
import type { Pin } from '../../src/jobs/job.ts'

const hex = (letter: string) => letter.repeat(64)
const pin = (reference: string, letter = 'a'): Pin => ({ reference, digest: `sha256:${hex(letter)}` })
const D = `sha256:${hex('a')}`

/** `use reference@line` of each external image. */
const images = (text: string, options: AnalyseOptions = {}) =>
  analyse(text, { platforms: ['linux/amd64'], ...options }).externals.map(
    ({ use, reference, line }) => `${use} ${reference}@${line}`,
  )

describe('images from outside', () => {
  test('FROM, COPY --from and RUN --mount, but not stages, stage numbers and scratch', () => {
    const text = `FROM golang:1.22 AS build
RUN --mount=type=cache,target=/c --mount=type=bind,from=acme/tools:2,target=/t make
FROM build AS test
RUN --mount=from=build,target=/b true
FROM scratch
COPY --from=0 /a /a
COPY --from=Build /a /a
COPY --from=test /a /a
COPY --chown=1:1 --from=busybox /bin/sh /sh
`
    expect(images(text)).toEqual(['from golang:1.22@1', 'mount acme/tools:2@2', 'copy busybox@9'])
  })

  test('a stage with the name of its image starts from the image; a later one from the stage', () => {
    expect(images('FROM alpine AS alpine\nFROM alpine\nCOPY --from=alpine /a /a\n')).toEqual(['from alpine@1'])
  })

  test('only stages that the target needs count', () => {
    const text = 'FROM a AS x\nFROM b AS y\nFROM c AS z\nCOPY --from=x /f /f\n'
    expect(images(text)).toEqual(['from a@1', 'from c@3'])
    expect(images(text, { target: 'Y' })).toEqual(['from b@2'])
  })

  test('named contexts replace images and stages', () => {
    const text = 'FROM acme/base:latest AS x\nFROM b AS y\nCOPY --from=docker.io/library/tools /t /t\nCOPY --from=x /x /x\n'
    expect(images(text, { contexts: ['acme/base', 'tools', 'y'] })).toEqual([])
  })

  test.each([
    ['ARG V=1\nFROM a:$V\n', {}, 'a:1'],
    ['ARG V=1\nFROM a:${V}\n', { V: '2' }, 'a:2'],
    ['ARG V\nFROM a:${V:-3}\n', {}, 'a:3'],
    ['ARG V=\nFROM a:${V-3}b\n', {}, 'a:b'],
    ['ARG V=\nFROM a:${V:-3}b\n', {}, 'a:3b'],
    ['ARG V=1\nFROM a${V:+:4}\n', {}, 'a:4'],
    ['FROM a${V:+:4}\n', { V: '1' }, 'a'],
    ['ARG R=reg.test:5000\nARG I="$R/a"\nFROM "${I}:1"\n', {}, 'reg.test:5000/a:1'],
    ["ARG I='$R'\nARG R=x\nFROM a:${I:-y}\n", {}, 'a:$R'],
    ['ARG A=1 B=2\nFROM a:$A.$B\n', { B: '3' }, 'a:1.3'],
    ['ARG V=v1.2.3\nFROM a:${V#v}\n', {}, 'a:1.2.3'],
    ['ARG V=1.2.3-rc1\nFROM a:${V%-*}\n', {}, 'a:1.2.3'],
    ['ARG V=1.2.3\nFROM a:${V%%.*}\n', {}, 'a:1'],
    ['ARG V=1.2.3\nFROM a:${V##*.}\n', {}, 'a:3'],
    ['ARG V=1.2.3\nFROM a:${V//./-}\n', {}, 'a:1-2-3'],
    ['ARG V=${U:-${W:-9}}\nFROM a:$V\n', {}, 'a:9'],
    ['FROM a:1\nARG V=2\nFROM a:$V\n', { V: '7' }, 'a:'],
    ['FROM a-$TARGETARCH\n', {}, 'a-amd64'],
    ['FROM a-$TARGETOS\n', { TARGETOS: 'plan9' }, 'a-plan9'],
  ])('%j with %j starts from %s', (text, args, reference) => {
    const found = images(text, { args: args as Record<string, string> }).map((image) => image.replace(/^from (.*)@\d+$/, '$1'))
    expect(found).toEqual([reference])
  })

  test.each([
    'FROM a:${V?}\n',
    'FROM a:${V\n',
    'FROM a:${}\n',
    'FROM\n',
    'FROM a as b c\n',
    'FROM "a\n',
    'FROM a AS 1\n',
    'RUN x\nFROM a\n',
  ])('errors that BuildKit reports are left to it: %j', (text) => {
    expect(() => images(text)).not.toThrow()
  })

  test('what a line looks like doesn’t matter: case, CRLF, continuations, comments in between, tabs, a byte order mark', () => {
    const text = '\ufeff# comment\r\nfrom\ta:1 \\\r\n  # comment\r\n\r\n  as x\r\nCoPy \\\r\n --from=b:1 \\\r\n /a /a\r\n'
    expect(images(text)).toEqual(['from a:1@2', 'copy b:1@6'])
  })

  test('# escape=` makes the backslash an ordinary character', () => {
    expect(images('# escape=`\nFROM a:1\nCOPY a C:\\\nCOPY --from=b:1 `\n x y\n')).toEqual(['from a:1@2', 'copy b:1@4'])
    expect(images('#\n# escape=`\nFROM a:1 `\nFROM b:1\n')).toEqual(['from b:1@4'])
  })

  test('a line that ends in an escaped backslash is not continued', () => {
    expect(images('FROM a\nRUN echo x\\\\\nFROM b\n')).toEqual(['from b@3'])
  })

  test.each([
    'RUN <<EOF\nFROM x\nEOF',
    'RUN cat 3<<-"E F" <<two\nFROM x\n\tE F\nFROM y\ntwo',
    "COPY <<'EOF' <<b /dir/\nFROM x\nEOF\nFROM z\nb",
    'ADD --chown=1 <<EOF /f\nCOPY --from=x a b\nEOF',
    'ONBUILD RUN <<EOF\nFROM x\nEOF',
  ])('a here-document holds no instructions: %j', (text) => {
    expect(images(`FROM a\n${text}\nCOPY --from=b /x /x\n`).map((image) => image.split('@')[0])).toEqual(['from a', 'copy b'])
  })

  test.each(['RUN echo $((1 << 2))', 'RUN ["cat", "<<EOF"]', 'ENV x=<<EOF', 'RUN cat <<<word', 'RUN cat <<never'])(
    'and this is none: %s',
    (text) => {
      expect(images(`FROM a\n${text}\nFROM b\n`)).toEqual(['from b@3'])
    },
  )

  test.each([
    ['# syntax=docker/dockerfile:1\nFROM a\n', 'docker/dockerfile:1'],
    ['#syntax = docker/dockerfile:1.7-labs\r\nFROM a\r\n', 'docker/dockerfile:1.7-labs'],
    ['# escape=`\n# SYNTAX=reg.test/f:1 some args\nFROM a\n', 'reg.test/f:1'],
    ['#!/usr/bin/env dockerfile\n# syntax=f:1\nFROM a\n', 'f:1'],
    ['\n# syntax=f:1\nFROM a\n', undefined],
    ['# hello\n# syntax=f:1\nFROM a\n', undefined],
  ])('the frontend of %j is %s', (text, reference) => {
    expect(analyse(text).externals.find(({ use }) => use === 'syntax')?.reference).toBe(reference)
  })
})

describe('platforms', () => {
  const both = { platforms: ['linux/amd64', 'linux/arm64/v8'], buildPlatform: 'linux/amd64' }

  test('a base must offer what its stage is for; --platform decides for the stages that start from it', () => {
    const text =
      'FROM --platform=$BUILDPLATFORM go AS build\nRUN make\nFROM build AS more\nFROM base\nCOPY --from=more / /\nCOPY --from=files / /\n'
    const { externals, stages } = analyse(text, both)
    expect(externals.map(({ reference, platforms }) => [reference, platforms])).toEqual([
      ['go', ['linux/amd64']],
      ['base', ['linux/amd64', 'linux/arm64']],
      ['files', ['linux/amd64', 'linux/arm64']],
    ])
    expect(stages.map(({ name, platforms, runs }) => [name, platforms, runs])).toEqual([
      ['build', ['linux/amd64'], true],
      ['more', ['linux/amd64'], false],
      ['2', ['linux/amd64', 'linux/arm64'], false],
    ])
  })

  test('a stage for each platform is the way to differ', () => {
    const text = 'FROM x:1 AS base-amd64\nFROM y:1 AS base-arm64\nFROM z:1 AS base-s390x\nFROM base-$TARGETARCH\n'
    expect(analyse(text, both).externals.map(({ reference, platforms }) => [reference, platforms])).toEqual([
      ['x:1', ['linux/amd64']],
      ['y:1', ['linux/arm64']],
    ])
  })

  test('one FROM for different images is refused, unless each has its digest', () => {
    expect(() => analyse('FROM a:$TARGETARCH\n', both)).toThrow(expect.objectContaining({ code: 'platform_reference', exit: 2 }))
    const text = `ARG amd64=@${D}\nFROM a\${TARGETVARIANT:-:$TARGETARCH@${D}}\n`
    expect(analyse(text, both).externals).toHaveLength(2)
    expect(pinDockerfile(text, analyse(text, both), [])).toBe(text)
  })
})

describe('refusals', () => {
  test('no FROM', () => {
    expect(() => analyse('# nothing\n')).toThrow(expect.objectContaining({ code: 'bad_dockerfile', exit: 2 }))
  })
  test('an unknown target, with what was meant', () => {
    const text = 'FROM a AS runtime\nFROM b AS test\n'
    expect(() => analyse(text, { target: 'runtme' })).toThrow(
      expect.objectContaining({ code: 'unknown_target', exit: 2, next: expect.stringContaining('"runtime"') }),
    )
    expect(() => analyse(text, { target: 'other' })).toThrow(
      expect.objectContaining({ next: expect.stringContaining('runtime, test') }),
    )
  })
  test('BUILDKIT_SYNTAX as an argument', () => {
    expect(() => analyse('FROM a\n', { args: { BUILDKIT_SYNTAX: 'f:1' } })).toThrow(
      expect.objectContaining({ code: 'unsupported_argument' }),
    )
  })
})

test('ADD of URLs: which are pinned', () => {
  const sha = 'b'.repeat(40)
  const text = `ARG H=example.test
FROM a AS unused
ADD https://unused.test/f /f
FROM a AS base
ENV V=1
FROM base
ARG H
ADD https://$H/f-\${V}.tgz /f
ADD --checksum=sha256:${hex('c')} https://h.test/g /g
ADD ["https://h.test/j", "local", "/g"]
ADD https://github.com/acme/x.git#main /x
ADD git@github.com:acme/x.git#${sha}:sub /x
ADD local.tgz <<EOF /y
EOF
`
  expect(analyse(text).urls.map(({ url, line, pinned }) => [line, url, pinned])).toEqual([
    [8, 'https://example.test/f-1.tgz', false],
    [9, 'https://h.test/g', true],
    [10, 'https://h.test/j', false],
    [11, 'https://github.com/acme/x.git#main', false],
    [12, `git@github.com:acme/x.git#${sha}:sub`, true],
  ])
})

describe('pinDockerfile', () => {
  const pinned = (text: string, pins: Pin[], options: AnalyseOptions = {}) => pinDockerfile(text, analyse(text, options), pins)

  test('replaces the references and nothing else', () => {
    const text = `# syntax=docker/dockerfile:1 arg\r
ARG V=3.20\r
FROM alpine:$V AS alpine # not a comment\r
FROM --platform=linux/amd64 alpine:\${V} AS b\r
RUN --mount=type=bind,from=acme/tools,target=/t echo alpine:3.20 \\\r
  # from=acme/tools\r
  acme/tools\r
COPY --from="busybox:1" a b\r
COPY --from=b a b\r
FROM unused:1 AS z\r
FROM b\r
LABEL a=alpine:3.20`
    const pins = [pin('docker/dockerfile:1'), pin('alpine:3.20'), pin('acme/tools', 'b'), pin('busybox:1', 'c')]
    expect(pinned(text.replace(' # not a comment', ''), pins)).toBe(
      text
        .replace(' # not a comment', '')
        .replace('docker/dockerfile:1', `docker/dockerfile:1@${D}`)
        .replace('FROM --platform=linux/amd64 alpine:${V}', `FROM --platform=linux/amd64 alpine:3.20@${D}`)
        .replace('from=acme/tools,', `from=acme/tools:latest@sha256:${hex('b')},`)
        .replace('"busybox:1"', `"busybox:1@sha256:${hex('c')}"`),
    )
  })

  test('a reference with a digest stays; a local one gets the name of its pin', () => {
    const text = `FROM a:1@${D}\nCOPY --from=b:1 x y\nCOPY --from=reg.test:5000/c x y\n`
    const pins: Pin[] = [{ ...pin('b:1', 'b'), local: true }, pin('reg.test:5000/c', 'c')]
    expect(pinned(text, pins)).toBe(
      `FROM a:1@${D}\nCOPY --from=bake-pin:${hex('b')} x y\nCOPY --from=reg.test:5000/c:latest@sha256:${hex('c')} x y\n`,
    )
  })

  test('a reference over two lines keeps the number of lines', () => {
    expect(pinned('FROM al\\\npine:3 \\\n AS x\nRUN y\n', [pin('alpine:3')])).toBe(`FROM alpine:3@${D}\\\n \\\n AS x\nRUN y\n`)
  })

  test('a name that a quote cuts through is refused rather than left unpinned', () => {
    expect(() => pinned('FROM a\nCOPY --from="bu"sybox x y\n', [pin('a'), pin('busybox')])).toThrow(
      expect.objectContaining({ code: 'unpinnable', exit: 2 }),
    )
  })

  test('no pin: refused, but for a frontend, which the engine then has built in', () => {
    expect(() => pinned('FROM a\n', [])).toThrow(expect.objectContaining({ code: 'pin_missing' }))
    expect(pinned('# syntax=docker/dockerfile:1\nFROM a\n', [pin('a')])).toBe(
      `# frontend: the engine's own\nFROM a:latest@${D}\n`,
    )
    const escaped = '# syntax=docker/dockerfile:1\r\n# escape=`\r\nFROM a `\r\n AS x\r\n'
    expect(pinned(escaped, [pin('a')])).toBe(`# escape=\`\r\n# frontend: the engine's own\r\nFROM a:latest@${D} \`\r\n AS x\r\n`)
  })
})
