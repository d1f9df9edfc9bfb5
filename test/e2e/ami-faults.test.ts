import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bootsMachines } from '../support/boots-machines.ts'
import { busybox, machineYaml, makeMachineProject } from '../support/machine-project.ts'
import type { TestProject } from '../support/project.ts'

/** One boot in software emulation, and up to the step that fails; on a busy machine. */
const BAKE = { timeout: 1_200_000 }

const planted = {
  aws: () => `AKIA${letters(16)}`,
  ssh: () =>
    `-----BEGIN OPENSSH PRIVATE KEY-----\n${randomBytes(300).toString('base64').replace(/.{70}/g, '$&\n')}\n-----END OPENSSH PRIVATE KEY-----`,
  docker: () =>
    JSON.stringify({ auths: { 'r.example': { auth: Buffer.from(`me:${randomBytes(12).toString('hex')}`).toString('base64') } } }),
}
const WHAT = { aws: 'an AWS access key id (AKIA…)', ssh: 'a private key', docker: 'a docker login' }
const letters = (count: number) => Array.from(randomBytes(count), (byte) => String.fromCharCode(65 + (byte % 26))).join('')

/** Every kind of secret, once in a file and once in one that is deleted again when the disk has it. */
const plants = () => `#!/bin/bash
set -e
mkdir -p /opt/app /root/.docker
${Object.entries(planted)
  .map(
    ([kind, make]) => `cat >/opt/app/${kind} <<'SECRET'\n${make()}\nSECRET
cat >/opt/app/${kind}-deleted <<'SECRET'\n${make()}\nSECRET`,
  )
  .join('\n')}
sync
rm /opt/app/*-deleted
sync
`

/** A layer of image \`gone\` is emptied in the engine's store; service \`swapped\` runs another image than the manifest names. */
const SABOTAGE = `#!/bin/bash
set -e
name_of() { sed -n "s|^Environment=BAKE_IMAGE=\\([a-z0-9.:/-]*/$1@sha256:[0-9a-f]*\\).*|\\1|p" /etc/systemd/system/bake-*.service | head -n 1; }
layer=$(docker image inspect --format '{{.GraphDriver.Data.UpperDir}}' "$(name_of gone)")
[ -d "$layer" ]
rm -rf "\${layer:?}"/*
sed -i "s|$(name_of web)|$(name_of other)|" /etc/systemd/system/bake-swapped.service
systemctl daemon-reload
`

const SICK = `    online: { image: web, command: ["busybox", "sh", "-c", "busybox wget -T 5 http://198.51.100.1/ && busybox touch /ready; exec busybox sleep 10000"], health: { command: ["busybox", "test", "-f", "/ready"], within: 30s } }
    named: { image: web, command: ["busybox", "sh", "-c", "busybox nslookup example.com && busybox touch /ready; exec busybox sleep 10000"], health: { command: ["busybox", "test", "-f", "/ready"], within: 30s } }
    never: { image: web, ports: ["83:4000"], health: { http: "http://127.0.0.1:83/", within: 30s } }
    gone: { image: gone, health: { within: 5m } }
    swapped: { image: web, command: ["busybox", "sleep", "10000"], health: { within: 5m } }
    other: { image: other, health: { within: 5m } }
`

const image = async (name: string) => ({
  [`${name}/name`]: name,
  [`${name}/busybox`]: await busybox(),
  [`${name}/Dockerfile`]: `FROM scratch\nCOPY name /\nCOPY busybox /bin/\nENV PATH=/bin NAME=${name}\nCMD ["busybox", "httpd", "-f", "-p", "3000"]\n`,
})

describe.skipIf(!bootsMachines)('a bake fails before anything is saved, and says why,', () => {
  let project: TestProject
  const bake = async (tag: string) => {
    const result = await project.bake(['ami', '--release', tag, '--json'])
    expect(result.code, result.stderr.slice(-4000)).toBe(3)
    const machines = JSON.parse((await project.bake(['releases', '--json'])).stdout) as { releases: { machines: unknown[] }[] }
    expect(machines.releases.flatMap((release) => release.machines)).toEqual([])
    return (JSON.parse(result.stdout) as { error: { code: string; message: string } }).error
  }
  beforeAll(async () => {
    project = await makeMachineProject('    web: { image: web }\n', {
      more: '  baker: packer\n  setup: [setup.sh]\n',
      files: { 'setup.sh': { executable: Buffer.from(plants()) } },
    })
    await project.repo.git('tag', 'v1')
  }, 900_000)
  afterAll(() => project?.[Symbol.asyncDispose]())

  test('of secrets that a script leaves, in files and in deleted ones', BAKE, async () => {
    const { message } = await bake('v1')
    for (const [kind, what] of Object.entries(WHAT)) {
      expect(message).toContain(`${what} is in /opt/app/${kind}\n`)
      expect(message).toMatch(
        new RegExp(`${what.replaceAll(/[()]/g, '.')} is on /dev/\\w+ at byte \\d+, in a file that was deleted again`),
      )
    }
    expect(message).toMatch(/^setup: machine\.setup left secrets on the disk/)
  })

  test('of services that need the network or names, never get well, miss a layer, or run another digest', BAKE, async () => {
    await project.repo.commit({
      'setup.sh': { executable: Buffer.from(SABOTAGE) },
      ...(await image('gone')),
      ...(await image('other')),
      'bake.yaml': await machineYaml({
        services: SICK,
        more: '  baker: packer\n  setup: [setup.sh]\n',
        images: ['web', 'gone', 'other'],
      }),
    })
    await project.repo.git('tag', 'v2')
    const { message } = await bake('v2')
    expect(message).toMatch(/^rehearse: not every service starts without a network/)
    const said = (name: string) => new RegExp(`^ *${name}: failed: (.*), [0-9.]+ s after the start$`, 'm').exec(message)?.[1]
    expect(said('online'), message).toMatch(/not healthy after 30 s: the command ends with 1(24: no end within 10 s)?$/)
    expect(said('named'), message).toMatch(/not healthy after 30 s: the command ends with 1(24: no end within 10 s)?$/)
    expect(said('never'), message).toMatch(
      /not healthy after 30 s: (nothing listens there|it closes the connection without an answer)/,
    )
    expect(said('gone'), message).toMatch(/exec: "busybox": executable file not found/)
    expect(said('swapped'), message).toMatch(/it runs sha256:[0-9a-f]{64}, not sha256:[0-9a-f]{64}/)
    expect(said('other'), message).toBeUndefined()
  })
})
