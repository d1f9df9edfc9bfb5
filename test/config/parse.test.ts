import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config.ts'

const design = async () => /```yaml\n(project: shop\n[\s\S]*?)```/.exec(await readFile('docs/design.md', 'utf8'))![1]!
const image = (settings: string) => parseConfig(`project: shop\nimages:\n  web: ${settings}\n`, 'bake.yaml').images[0]!

describe('a valid bake.yaml', () => {
  it("is the design's own example", async () => {
    const config = parseConfig(await design(), 'bake.yaml')
    expect(config.images.map(({ name, context }) => [name, context])).toEqual([
      ['web', '.'],
      ['jobs', 'jobs'],
    ])
    expect(config.images[0]).toMatchObject({
      target: 'web',
      platforms: ['linux/amd64'],
      args: { NODE_ENV: 'production' },
      secrets: [{ id: 'npm_token' }],
    })
    expect(config.machine?.services[0]).toMatchObject({
      ports: [{ host: 80, container: 3000, protocol: 'tcp' }],
      envFrom: ['ssm:/shop/web'],
      health: { http: 'http://127.0.0.1:80/health', withinSeconds: 60 },
    })
    expect(config.stacks.map(({ where }) => where)).toEqual([
      { targets: { 'tag:stack': ['dev-alice'] } },
      { autoscalingGroup: 'shop-web', rolling: expect.objectContaining({ minHealthy: 100, maxHealthy: 110 }) },
    ])
  })

  it("gives an image's own health check more time", () => {
    const services = '    web: { image: web, health: { within: 5m } }\n'
    const text = `project: shop\nimages:\n  web: {}\nmachine:\n  base: { disk: ./base.qcow2 }\n  services:\n${services}`
    expect(parseConfig(text, 'bake.yaml').machine?.services[0]?.health).toEqual({ own: true, withinSeconds: 300 })
  })

  it('fills in what is left out', () => {
    expect(image('{}')).toEqual({
      name: 'web',
      context: '.',
      dockerfile: 'Dockerfile',
      platforms: [],
      args: {},
      secrets: [],
      ssh: [],
      contexts: {},
      submodules: false,
      lfs: false,
      strict: false,
      attest: false,
    })
  })

  it.each(['', '.', './', '{ context: . }', '{ context: ./ }'])('takes %j as the whole directory', (text) => {
    expect(image(text).context).toBe('.')
  })

  it('takes numbers and booleans as they are written', () => {
    expect(image('{ args: { GO: 1.20, OCTAL: 0755, BIG: 12345678901234567890, YES: yes, ON: true, EMPTY: "" } }').args).toEqual({
      GO: '1.20',
      OCTAL: '0755',
      BIG: '12345678901234567890',
      YES: 'yes',
      ON: 'true',
      EMPTY: '',
    })
  })

  it('takes arguments as a list, as compose does', () => {
    expect(image('{ args: [A=1, B=x=y, C=] }').args).toEqual({ A: '1', B: 'x=y', C: '' })
  })

  it('takes secrets as ids, as tables and as names', () => {
    const secrets = [{ id: 'a' }, { id: 'b', ssm: '/shop/b' }]
    expect(image('{ secrets: [a, { id: b, ssm: /shop/b }] }').secrets).toEqual(secrets)
    expect(image('{ secrets: { a: , b: { ssm: /shop/b } } }').secrets).toEqual(secrets)
  })

  it('normalises paths and keeps image references', () => {
    expect(image('{ context: ./a//b/, dockerfile: ./x/D, contexts: { c: ./d/, e: "docker-image://alpine:3" } }')).toMatchObject({
      context: 'a/b',
      dockerfile: 'x/D',
      contexts: { c: 'd', e: 'docker-image://alpine:3' },
    })
  })

  it('adds up the units of a time', () => {
    expect(image('{ max_age: 1w2d3h4m5s }').maxAgeSeconds).toBe(788645)
  })

  it("keeps the file's order, also of names that are numbers", () => {
    const { images } = parseConfig('project: p\nimages: { b: , "2": , a: , "1": }\n', 'bake.yaml')
    expect(images.map(({ name }) => name)).toEqual(['b', '2', 'a', '1'])
  })

  it('follows anchors and merges, with x- keys as their place', () => {
    const text =
      'x-web: &web { dockerfile: D, args: &args { V: 1.10 } }\nproject: p\nimages:\n  a: { <<: *web, context: a }\n  b: { args: { <<: *args, W: 2.0 } }\n'
    const [a, b] = parseConfig(text, 'bake.yaml').images
    expect(a).toMatchObject({ context: 'a', dockerfile: 'D', args: { V: '1.10' } })
    expect(b!.args).toEqual({ V: '1.10', W: '2.0' })
  })

  it.each([
    'https://github.com/acme/shop.git',
    'ssh://git@host:2222/acme/shop',
    'git@github.com:acme/shop.git',
    '/srv/git/my shop.git',
    '../shop',
    '.',
  ])('takes the repository %s', (repository) => {
    expect(parseConfig(`project: p\nrepository: "${repository}"\nimages: { a: . }`, 'f').repository).toBe(repository)
  })

  it.each(['localhost:5000', 'localhost/x', 'ghcr.io/acme/shop', '127.0.0.1:5000/a/b', '[::1]:5000/a', 'docker.io/acme'])(
    'takes the registry %s',
    (registry) => {
      expect(parseConfig(`project: p\nregistry: "${registry}"\nimages: { a: . }`, 'f').registry).toBe(registry)
    },
  )

  it('parses everything that later parts of bake need', async () => {
    const config = parseConfig(await readFile(new URL('everything.yaml', import.meta.url), 'utf8'), 'everything.yaml')
    await expect(`${JSON.stringify(config, null, 2)}\n`).toMatchFileSnapshot('everything.snap')
  })
})
