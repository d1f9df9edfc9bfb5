import { expect, test } from 'vitest'
import type { BuildRequest } from '../../src/io/builder.ts'
import { buildxArguments, buildxEnvironment } from '../../src/io/buildx-arguments.ts'

const request: BuildRequest = {
  contextDir: '/tree',
  dockerfile: '/slot/Dockerfile',
  push: ['h/p:1', 'h/p:2'],
  target: 'web',
  platforms: ['linux/amd64', 'linux/arm64'],
  args: { A: 'x=y z' },
  secrets: { tok: '/shm/a,"b' },
  ssh: ['default'],
  contexts: { base: 'docker-image://h/b@sha256:1' },
  network: 'none',
  attest: true,
  cacheFrom: ['h/c:a', 'h/c:main'],
  cacheTo: 'h/c:a',
  configDir: '/slot/buildx',
}

test('every part of a request has its argument', () => {
  expect(buildxArguments(request, { containerdStore: true, keep: false, metadataFile: '/m' })).toEqual([
    'build',
    '--progress=rawjson',
    '--provenance=true',
    '--sbom=true',
    ...['--file', '/slot/Dockerfile'],
    ...['--target', 'web'],
    ...['--platform', 'linux/amd64', '--platform', 'linux/arm64'],
    ...['--build-arg', 'A=x=y z'],
    ...['--secret', 'id=tok,"src=/shm/a,""b"'],
    ...['--ssh', 'default'],
    ...['--build-context', 'base=docker-image://h/b@sha256:1'],
    ...['--network', 'none'],
    ...['--output', 'type=image,"name=h/p:1,h/p:2",push=,oci-mediatypes=true,store=false'],
    ...['--cache-from', 'type=registry,ref=h/c:a', '--cache-from', 'type=registry,ref=h/c:main'],
    ...['--cache-to', 'type=registry,ref=h/c:a,mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true'],
    ...['--metadata-file', '/m'],
    '--',
    '/tree',
  ])
})

test('what a request leaves out has none', () => {
  const bare = {
    ...request,
    target: undefined,
    platforms: [],
    args: {},
    secrets: {},
    ssh: [],
    contexts: {},
    network: undefined,
    attest: false,
    cacheFrom: [],
    cacheTo: undefined,
  }
  expect(buildxArguments(bare, { containerdStore: true, keep: true, metadataFile: '/m' })).toEqual([
    'build',
    '--progress=rawjson',
    '--provenance=false',
    '--sbom=false',
    ...['--file', '/slot/Dockerfile'],
    ...['--output', 'type=image,"name=h/p:1,h/p:2",push=,oci-mediatypes=true'],
    ...['--metadata-file', '/m'],
    '--',
    '/tree',
  ])
})

test('buildx gets the caller’s environment without what changes a build or is secret', () => {
  const kept = {
    PATH: '/bin',
    DOCKER_HOST: 'h',
    DOCKER_CONFIG: 'c',
    DOCKER_CONTEXT: 'x',
    SSH_AUTH_SOCK: 's',
    HTTPS_PROXY: 'p',
    no_proxy: 'n',
  }
  const dropped = {
    SOURCE_DATE_EPOCH: '1',
    BUILDKIT_HOST: 'x',
    BUILDX_BUILDER: 'x',
    BUILDX_CONFIG: '/mine',
    EXPERIMENTAL_BUILDKIT_SOURCE_POLICY: 'x',
    DOCKER_DEFAULT_PLATFORM: 'x',
    OTEL_EXPORTER_OTLP_ENDPOINT: 'x',
    BAKE_SECRET_A: 'x',
  }
  expect(buildxEnvironment({ ...kept, ...dropped }, '/slot')).toEqual({
    ...kept,
    BUILDX_CONFIG: '/slot',
    BUILDX_GIT_INFO: 'false',
  })
})
