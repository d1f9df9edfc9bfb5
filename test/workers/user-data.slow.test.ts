import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { PutParameterCommand, SSMClient } from '@aws-sdk/client-ssm'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { MOTO_REGION, startMoto } from '../support/moto.ts'
import { BUILD_MS, type BuiltImage, buildService, docker, ROOT } from './images.ts'
import { workersFile } from './template.ts'

vi.setConfig({ testTimeout: 600_000, hookTimeout: BUILD_MS })

const KEY = '-----BEGIN OPENSSH PRIVATE KEY-----\nnot a real one\n-----END OPENSSH PRIVATE KEY-----\n'
const YAML = 'project: "a\'b"\n# $HOME `id`\n'
/** A disk that is larger than the smallest that is taken. */
const DISK = '9G'

/** Programs of the machine that a container can't have: they say what they were asked for. */
const FAKES: Record<string, string> = {
  'apt-get': 'echo "apt-get $*" >>/log; touch /installed',
  'dpkg-query': '[ -e /installed ] && echo installed',
  systemctl: 'echo "systemctl $*" >>/log',
  udevadm: 'true',
  // Its own disk first, which is in use, then one that is too small, then the blank one, behind a loop device.
  lsblk: `case "$*" in *TYPE*) printf '%s\\n' "/dev/small disk 1000000" "$(cat /disk) disk 9663676416" "/dev/part part 99663676416" ;; *) echo one ;; esac`,
}

let image: BuiltImage
beforeAll(async () => {
  image = await buildService('packages')
})
afterAll(() => image?.[Symbol.asyncDispose]())

test('user-data.sh makes a worker of a bare machine, and a second run changes nothing', async () => {
  await using undo = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'bake-user-data-'))
  undo.defer(() => rm(dir, { recursive: true, force: true }))
  const moto = undo.use(await startMoto())
  const ssm = new SSMClient({
    endpoint: moto.endpoint,
    region: MOTO_REGION,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })
  await ssm.send(new PutParameterCommand({ Name: '/bake/git-key', Value: KEY, Type: 'SecureString' }))
  ssm.destroy()
  const imds = undo.use(await startMetadata())
  await promisify(execFile)('npm', ['pack', '--ignore-scripts', '--pack-destination', dir], { cwd: ROOT })
  const tarball = (await readdir(dir)).find((name) => name.endsWith('.tgz'))!
  await mkdir(join(dir, 'fakes'))
  for (const [name, body] of Object.entries(FAKES)) {
    await writeFile(join(dir, 'fakes', name), `#!/bin/sh\n${body}\n`)
    await chmod(join(dir, 'fakes', name), 0o755)
  }
  const node = dirname(dirname(process.execPath))
  const env = {
    PATH: '/test/fakes:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    AWS_EC2_METADATA_SERVICE_ENDPOINT: imds.endpoint,
    AWS_ENDPOINT_URL_SSM: `${moto.endpoint}/`,
    BAKE_PACKAGE: `/test/${tarball}`,
    BAKE_YAML_BASE64: Buffer.from(YAML).toString('base64'),
    BAKE_GIT_KEY_PARAMETER: '/bake/git-key',
    BAKE_WORKER_ENV_BASE64: Buffer.from('AWS_REGION=us-east-1\n').toString('base64'),
  }
  const id = await docker([
    ...['run', '--detach', '--privileged', '--network', 'host', '--volume', `${dir}:/test:ro`],
    ...['--volume', `${node}:/opt/bake/node:ro`, '--volume', `${workersFile('user-data.sh')}:/user-data.sh:ro`],
    ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
    ...[image.name, 'sleep', 'infinity'],
  ])
  undo.defer(async () => void (await docker(['rm', '--force', '--volumes', id])))
  const inside = (script: string) => docker(['exec', id, 'bash', '-ec', script])
  await inside(`truncate -s ${DISK} /disk.img && losetup --find --show /disk.img >/disk`)
  undo.defer(async () => void (await inside('umount /var/lib/docker /var/lib/bake /mnt/bake-cache; losetup -d "$(cat /disk)"')))

  const first = await inside('/user-data.sh 2>&1')
  expect(first).toMatch(/bake: formatting \/dev\/loop\d+ for the caches\n/)
  expect(first).toContain('bake: installing docker.io docker-buildx ')
  expect(first).toMatch(/bake: bakehouse\/\S+ linux-\S+ node-v2\d\S+ is set up$/)
  const log = await inside('cat /log; : >/log')
  expect(log).toMatch(/restart docker\n(.*\n)*systemctl --no-block restart bake-worker\n/)

  expect(await inside('cat /etc/bake/bake.yaml')).toBe(YAML.trimEnd())
  expect(await inside('cat /etc/bake/git-key')).toBe(KEY.trimEnd())
  expect(await inside('stat -c "%a %U" /etc/bake/git-key /etc/bake/worker.env /var/lib/bake')).toBe(
    '600 bake\n640 root\n755 bake',
  )
  const environment = await inside('cat /etc/bake/worker.env')
  for (const line of [
    'BAKE_WORKER_NAME=i-0123456789abcdef0',
    'GIT_SSH_COMMAND=ssh -i /etc/bake/git-key .*',
    'AWS_REGION=us-east-1',
  ])
    expect(environment).toMatch(new RegExp(`^${line}$`, 'm'))
  expect(JSON.parse(await inside('cat /etc/docker/daemon.json')).features).toEqual({ 'containerd-snapshotter': true })
  expect(await inside('findmnt -no LABEL /mnt/bake-cache; mountpoint /var/lib/docker; mountpoint /var/lib/bake')).toMatch(
    /^bake-cache\n.*is a mountpoint\n.*is a mountpoint$/,
  )
  expect(await inside('cat /etc/systemd/system/bake-worker.service')).toContain('ExecStart=/opt/bake/bin/bake worker')
  // As the unit starts it.
  const worker =
    'set -a; . <(grep ^PATH= /etc/bake/worker.env); setpriv --reuid bake --regid bake --clear-groups /opt/bake/bin/bake --version'
  expect(await inside(worker)).toMatch(/^bakehouse\//)

  const second = await inside('touch /var/lib/bake/kept; /user-data.sh 2>&1; ls /var/lib/bake/kept')
  expect(second).toMatch(/^bake: bakehouse\/\S+ \S+ \S+ is set up\n\/var\/lib\/bake\/kept$/)
  expect(await inside('cat /log')).not.toContain('restart')

  const changed = await inside(
    `BAKE_YAML_BASE64=${Buffer.from('project: other\n').toString('base64')} /user-data.sh >/dev/null; cat /log`,
  )
  expect(changed).toContain('systemctl --no-block restart bake-worker')
  expect(changed).not.toContain('restart docker')
})

test('user-data.sh says what it needs', async () => {
  await expect(promisify(execFile)(workersFile('user-data.sh'), { env: { PATH: process.env.PATH } })).rejects.toThrow(
    'BAKE_YAML_BASE64: is not set',
  )
})

/** Version 2 of EC2's instance metadata service, with a role's credentials. */
async function startMetadata(): Promise<{ endpoint: string } & AsyncDisposable> {
  const data: Record<string, string> = {
    'instance-id': 'i-0123456789abcdef0',
    'placement/region': MOTO_REGION,
    'iam/security-credentials/': 'worker',
    'iam/security-credentials/worker': JSON.stringify({ AccessKeyId: 'AKIATEST', SecretAccessKey: 's/+=', Token: 'FwoG/+==' }),
  }
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    if (path === '/latest/api/token') return void response.writeHead(request.method === 'PUT' ? 200 : 405).end('token')
    const found =
      request.headers['x-aws-ec2-metadata-token'] === 'token' ? data[path.replace('/latest/meta-data/', '')] : undefined
    response.writeHead(found === undefined ? 404 : 200).end(found)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  return { endpoint: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: async () => void server.close() }
}
