import { describe, expect, it } from 'vitest'
import { ConfigError, type ConfigProblem, parseConfig } from '../../src/config.ts'

function problems(text: string): ConfigProblem[] {
  try {
    parseConfig(text, 'bake.yaml')
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

/** Of an otherwise valid file: `line path: message (suggestion)`. */
const told = (text: string) =>
  problems(text).map(
    ({ line, path, message, suggestion }) => `${line} ${path}: ${message}${suggestion ? ` (${suggestion})` : ''}`,
  )
const top = (text: string) => told(`project: p\nimages: { web: , api: }\n${text}`)
const image = (settings: string) => told(`project: p\nimages:\n  web:\n    ${settings}\n`)
const services = (text: string) => top(`machine:\n  base: { disk: a.raw }\n  services:\n    ${text}`)

describe('problems in bake.yaml', () => {
  it('are told all at once, in the order of lines, with exit code 2 and the file', () => {
    const text = 'projct: shop\nimages:\n  Web: { contxt: . }\n  api: { platforms: [amd64] }\nregistry: https://ghcr.io/x\n'
    expect(() => parseConfig(text, 'ops/bake.yaml')).toThrowError(
      expect.objectContaining({
        code: 'config_invalid',
        exit: 2,
        message: [
          'ops/bake.yaml:1: project: is missing',
          'ops/bake.yaml:1: projct: unknown key (did you mean project?)',
          'ops/bake.yaml:3: images.Web: the name must be lower-case letters, digits and single . _ - between them (did you mean web?)',
          'ops/bake.yaml:3: images.Web.contxt: unknown key (did you mean context?)',
          'ops/bake.yaml:4: images.api.platforms.0: must be os/arch or os/arch/variant, such as linux/arm64: "amd64" (did you mean linux/amd64?)',
          'ops/bake.yaml:5: registry: must be without a scheme, host[:port]/path: "https://ghcr.io/x" (did you mean ghcr.io/x?)',
        ].join('\n'),
      }),
    )
  })

  it('of unknown keys name the key of compose that was meant, or all that are known', () => {
    expect(image('build_args: {}')).toEqual(['4 images.web.build_args: unknown key (args)'])
    expect(services('a: { image: web, dependsOn: [], environment: {}, healthcheck: {} }')).toEqual([
      expect.stringContaining('6 machine.services.a.dependsOn: unknown key'),
      '6 machine.services.a.environment: unknown key (env)',
      '6 machine.services.a.healthcheck: unknown key (health)',
    ])
    expect(top('aws: { region: us-east-1, queue: q, bucket: abc, qqqqqqqq: 1 }\nrepository: git@h:x\nregistry: h:1/x')).toEqual([
      '3 aws.qqqqqqqq: unknown key; known here: region, queue, bucket',
    ])
  })

  it('in the text itself are told with their line', () => {
    expect(told('project: p\nimages: {\n')[0]).toMatch(/^3 : is not valid YAML: /)
    expect(told('a: b\n\tc: d\n')[0]).toMatch(/^\d : is not valid YAML: /)
    expect(told('')).toEqual(['1 : is empty'])
    expect(told('just text')).toEqual(['1 : must be a table of settings, not "just text"'])
    expect(told('project: p\nimages: *nowhere\n')[0]).toMatch(/^\d : is not valid YAML: .*nowhere/)
    expect(told('project: p\nimages: { a: !include x }\n')[0]).toMatch(/^2 : is not valid YAML: .*!include/)
  })

  it('survive an alias bomb', () => {
    const text = [
      'a: &a [x,x,x,x,x,x,x,x,x]',
      ...'bcdefghi'.split('').map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`),
    ].join('\n')
    expect(told(text)[0]).toContain('is not valid YAML: Excessive alias count')
  })

  it('of keys that are there twice come with those of the rest', () => {
    expect(told('project: p\nimages:\n  web: .\n  web: ..\nproject: q\n')).toEqual([
      '4 : web is there twice',
      '4 images.web: must not have .. in it: only what is below can be part of a build: ".."',
      '5 : project is there twice',
    ])
  })

  it.each([
    ['context: /srv', 'context: must not be an absolute path: "/srv"'],
    ['context: ../x', 'context: must not have .. in it: only what is below can be part of a build: "../x"'],
    ['context: a/../../b', 'context: must not have .. in it: only what is below can be part of a build: "a/../../b"'],
    ['context: ~/x', 'context: must be a path inside the repository, not in a home directory: "~/x"'],
    [
      'context: https://github.com/a/b.git',
      'context: must be a path inside the repository, not a URL: "https://github.com/a/b.git"',
    ],
    ['context: git@github.com:a/b.git', 'context: must be a path inside the repository, not a URL: "git@github.com:a/b.git"'],
    ['context: a\\b', 'context: must use / between directories: "a\\\\b" (a/b)'],
    ['context: ""', 'context: must not be empty; . is the directory of bake.yaml: ""'],
    ['context: "a\\nb"', 'context: must not have control characters: "a\\nb"'],
    ['dockerfile: /etc/passwd', 'dockerfile: must not be an absolute path: "/etc/passwd"'],
    [
      'dockerfile: ../Dockerfile',
      'dockerfile: must not have .. in it: only what is below can be part of a build: "../Dockerfile"',
    ],
    ['contexts: { a: /b }', 'contexts.a: must not be an absolute path; or docker-image://REFERENCE: "/b"'],
    ['contexts: { a: "target:b" }', 'contexts.a: must be a directory of the repository or docker-image://REFERENCE: "target:b"'],
    ['platforms: linux/amd64', 'platforms: must be a list, not "linux/amd64" ([linux/amd64])'],
    [
      'platforms: [linux/amd46]',
      'platforms.0: must be os/arch or os/arch/variant, such as linux/arm64: "linux/amd46" (linux/amd64)',
    ],
    [
      'platforms: [linux/x86_64]',
      'platforms.0: must be os/arch or os/arch/variant, such as linux/arm64: "linux/x86_64" (linux/amd64)',
    ],
    ['platforms: [linux/arm64, linux/arm64]', 'platforms.1: is there twice'],
    [
      'args: { A: }',
      'args.A: must be text or a number or true or false, not nothing; a build or a boot elsewhere has nothing of your environment, so write the value, or leave the line out',
    ],
    ['args: { A: [1] }', 'args.A: must be text or a number or true or false, not a list'],
    ['args: [A]', 'args.0: must be NAME=value; a worker knows nothing of your environment: "A"'],
    [
      'args: { BUILDKIT_SYNTAX: x }',
      'args.BUILDKIT_SYNTAX: must not be an argument: name the frontend in the Dockerfile, # syntax=…, where it is pinned',
    ],
    [
      'secrets: [npm_token, NPM-TOKEN]',
      "secrets.1: NPM-TOKEN is there twice: its value comes from the same variable as another one's",
    ],
    [
      'secrets: [{ id: a, ssm: shop/a }]',
      'secrets.0.ssm: must be the name of an SSM parameter, such as /shop/npm-token: "shop/a" (/shop/a)',
    ],
    ['secrets: [../x]', 'secrets.0: must be letters, digits and . _ -: "../x"'],
    ['network: hots', 'network: must be one of default, none, host, not "hots" (host)'],
    ['lfs: yes', 'lfs: must be true or false, not "yes" (true)'],
    ['max_age: 7', 'max_age: must be a time with a unit, such as 60s, not 7 (7d)'],
    ['max_age: 7 days', 'max_age: must be a time with a unit, such as 60s, 15m, 12h or 7d: "7 days" (7d)'],
    ['target: --x', 'target: must be the name of a stage: "--x"'],
  ])('of an image: %s', (settings, expected) => {
    expect(image(settings)).toEqual([`4 images.web.${expected}`])
  })

  it('of an image called like the caches', () => {
    expect(told('project: p\nimages:\n  bake-cache: .\n')).toEqual([
      '3 images.bake-cache: is reserved: build caches live under this name',
    ])
  })

  it.each([
    ['-x', 'must not start with -'],
    ['ext::sh -c id', 'transport helpers (xx::) run programs'],
    ['http://host/a', '(https://host/a)'],
    ['git://host/a', '(https://host/a)'],
    ['file:///srv/a', '(/srv/a)'],
    ['ssh://-oProxyCommand=id/a', 'has no valid host'],
    ['ssh://-x@host/a', 'has no valid host'],
    ['git@-host:a', 'must be https://host/path'],
    ['git@host:-a', 'must be https://host/path'],
    ['github.com/acme/shop', '(https://github.com/acme/shop)'],
    ['https://host', 'must name a host and a path'],
  ])('of a repository: %s', (repository, expected) => {
    expect(top(`repository: "${repository}"`)).toEqual([expect.stringContaining(expected)])
    expect(top(`worker: { repositories: ["${repository}"] }`)).toEqual([expect.stringContaining(expected)])
  })

  it('never print the password of a URL', () => {
    expect(top('repository: "https://me:hunter2@host/a"')).toEqual([
      '3 repository: must not hold a password: use a git credential helper or ssh: "https://…@host/a"',
    ])
  })

  it.each([
    ['https://ghcr.io/x', '(ghcr.io/x)'],
    ['ghcr.io/x:latest', '(ghcr.io/x)'],
    ['ghcr.io/x@sha256:00', '(ghcr.io/x)'],
    ['ghcr.io/Acme', '(ghcr.io/acme)'],
    ['acme', '(docker.io/acme)'],
    ['ghcr.io/x/', '(ghcr.io/x)'],
    ['-x/y', 'must start with a host'],
  ])('of a registry: %s', (registry, expected) => {
    expect(top(`registry: "${registry}"`)).toEqual([expect.stringContaining(expected)])
  })

  it('of settings that contradict each other', () => {
    expect(top('aws: { region: us-east-1, queue: q, bucket: abc }')).toEqual([
      expect.stringContaining('3 aws: needs repository:'),
      expect.stringContaining('3 aws: needs registry:'),
    ])
    expect(top('machine: { base: { ami: { id: ami-12345678 }, disk: x } }')).toEqual([
      '3 machine.base.disk: must have only one of ami, disk, not ami and disk',
    ])
    // By anyone's owner the newest image of a name may be anyone's.
    expect(top('machine: { base: { ami: { name: "al2023-*" } } }')).toEqual([expect.stringMatching(/machine\.base\.ami.*owner/)])
    expect(top('machine: { base: { ami: { owner: anyone, name: "al2023-*" } } }')).toEqual([
      expect.stringContaining('must be an account id, amazon, aws-marketplace or self'),
    ])
    expect(top('machine: { base: {} }')).toEqual(['3 machine.base: must have one of ami, disk'])
    expect(top('stacks:\n  s: { targets: { "tag:a": b }, autoscaling_group: x, local: true }\n  t: {}')).toEqual([
      '4 stacks.s.autoscaling_group: must have only one of targets, autoscaling_group, local, not targets and autoscaling_group and local',
      '5 stacks.t: must have one of targets, autoscaling_group, local',
    ])
  })

  it('of how a group is replaced', () => {
    const group = (rolling: string) => top(`stacks:\n  s: { autoscaling_group: g, rolling: ${rolling} }`)
    expect(group('{ min_healthy: 50, max_healthy: 150, checkpoints: [20, 100], checkpoint_delay: 5m }')).toEqual([])
    expect(group('{ min_healthy: 20, max_healthy: 150, checkpoints: [50, 20], warmup: 60 }')).toEqual([
      '4 stacks.s.rolling.warmup: must be a time with a unit, such as 60s, not 60 (60s)',
      '4 stacks.s.rolling.max_healthy: must be at most 100 above min_healthy, 20',
      '4 stacks.s.rolling.checkpoints: must ascend',
    ])
    expect(group('{ checkpoints: [50] }')).toEqual([
      '4 stacks.s.rolling.checkpoints: must end with 100, or the rest is never replaced',
    ])
    expect(group('{ checkpoint_delay: 5m }')).toEqual(['4 stacks.s.rolling.checkpoint_delay: needs checkpoints'])
    expect(top('stacks:\n  s: { local: true, rolling: {} }')).toEqual([
      '4 stacks.s.rolling: is for stacks with autoscaling_group only',
    ])
  })

  it("of services that don't fit together", () => {
    expect(services('a: { image: wep, health: { http: "http://x/", tcp: 80 } }')).toEqual([
      '6 machine.services.a.image: there is no image "wep" in images (web)',
      '6 machine.services.a.health.tcp: must have only one of http, tcp, command, not http and tcp',
    ])
    expect(services('a: { image: web, health: {} }')).toEqual([
      '6 machine.services.a.health: must have one of http, tcp, command',
    ])
    expect(services('a: { image: web, ports: ["80:1"] }\n    b: { image: api, ports: ["80:2/udp", "127.0.0.1:80:2"] }')).toEqual([
      '7 machine.services.b.ports.1: host port 80/tcp is taken by a already',
    ])
    expect(
      services('a: { image: web, after: [b] }\n    b: { image: api, after: [c] }\n    c: { image: api, after: [a, d] }'),
    ).toEqual([
      '6 machine.services.a.after: goes round in a circle: a → b → c → a',
      expect.stringContaining('8 machine.services.c.after.1: there is no service "d"'),
    ])
    expect(services('a: { image: web, after: [a] }')).toEqual(['6 machine.services.a.after: goes round in a circle: a → a'])
  })

  it.each([
    ['ports: [3000]', 'ports.0: must be text, not 3000 ("3000:3000")'],
    ['ports: ["0:1"]', 'ports.0: must be "host:container" or "address:host:container"'],
    ['ports: ["80-90:80-90"]', 'ports.0: must be "host:container"'],
    ['env: { A: }', 'env.A: must be text or a number or true or false, not nothing; a build or a boot'],
    ['env_from: [/shop/web]', 'env_from.0: must be ssm:/path or secret:name: "/shop/web" (ssm:/shop/web)'],
    ['env_from: [ssm:shop]', 'env_from.0: must be ssm:/path or secret:name: "ssm:shop" (ssm:/shop)'],
    ['env_file: web.env', 'env_file: must be an absolute path on the instance, without ..: "web.env"'],
    ['health: { tcp: 5432, within: 60 }', 'health.within: must be a time with a unit, such as 60s, not 60 (60s)'],
    ['health: { tcp: 70000 }', 'health.tcp: must be at most 65535, not 70000'],
    ['memory: 512', 'memory: must be a size with a unit, such as 20GB, not 512 (512MB)'],
    ['restart: allways', 'restart: must be one of no, always, on-failure, unless-stopped, not "allways" (always)'],
    ['command: sh -c "x"', 'command: must be a list of words, because no shell reads it'],
  ])('of a service: %s', (settings, expected) => {
    expect(services(`a:\n      image: web\n      ${settings}`)).toEqual([
      expect.stringContaining(`8 machine.services.a.${expected}`),
    ])
  })
})
