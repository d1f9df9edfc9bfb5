// biome-ignore-all lint/suspicious/noTemplateCurlyInString: scripts
import { createServer, type Server } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Service } from '../../src/ami/machine.ts'
import { newReport, readReportLine } from '../../src/ami/proof-report.ts'
import { renderMachine } from '../../src/ami/render.ts'
import type { Health } from '../../src/config.ts'
import { canMount, type DiskRoot, makeDiskRoot } from './disk-root.ts'
import { digest, HOSTILE, plan, service, standIns } from './plan.ts'

/** In a root of its own, where /run and /etc are nobody's. What systemd, docker and the journal would say stands in files of /run/says. */
async function withRoot<T>(services: Service[], use: (root: DiskRoot) => T | Promise<T>): Promise<T> {
  using root = makeDiskRoot(await renderMachine(plan(services, { standIns }), new Map()), 16)
  return await use(root)
}

/** `docker` and `systemctl` that say what /run/says holds for their first words, and note what they were asked. */
const STUBS = `
  mkdir -p /run/says /run/stubs
  cat >/run/stubs/docker <<'SH'
#!/bin/bash
printf '%s\\0' "$@" >>/run/asked; printf '\\n' >>/run/asked
for words in "$1 $2 \${*: -1}" "$1 \${*: -1}" "$1"; do
  if [ -e "/run/says/\${words//\\//_}" ]; then cat "/run/says/\${words//\\//_}"; exit 0; fi
done
exit 1
SH
  cp /run/stubs/docker /run/stubs/systemctl
  cp /run/stubs/docker /run/stubs/journalctl
  chmod +x /run/stubs/*
  PATH=/run/stubs:$PATH
  says() { printf '%b' "$2" >"/run/says/$1"; }
  cp -r /run/bake-bake/files/. /
`

describe.skipIf(!canMount)('on a machine, as root,', () => {
  describe('a health check', () => {
    let web: Server
    let port: number
    beforeAll(async () => {
      web = createServer((request, response) => {
        if (request.url === '/slow') return
        response.statusCode = request.url === '/moved' ? 302 : request.url?.startsWith('/well?a=%22') ? 204 : 503
        response.end()
      })
      await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve))
      port = (web.address() as AddressInfo).port
    })
    afterAll(() => {
      web.closeAllConnections()
      web.close()
    })

    const check = (health: Health | undefined, script = '', more: Partial<Service> = {}) =>
      withRoot([service('web', { ...more, ...(health && { health: { ...health, withinSeconds: 2 } }) })], async (root) => {
        const { status, stdout, stderr } = await root.run(
          `${STUBS}${script}\nstatus=0; /usr/local/lib/bake/health-web || status=$?; echo "$status $(cat /run/bake/web.checked 2>/dev/null)"`,
        )
        expect(status, stderr).toBe(0)
        return { ended: stdout.trim(), said: stderr.trim() }
      })

    test.each(['/moved', '/well?a="'])('by http is passed by 2xx and 3xx: %s', async (path) => {
      expect(await check({ http: `http://127.0.0.1:${port}${path}` })).toEqual({ ended: '0 yes', said: '' })
    })

    test('by http says what was answered instead', async () => {
      const { ended, said } = await check({ http: `http://127.0.0.1:${port}/` })
      expect({ ended, said }).toEqual({ ended: '1', said: 'web: not healthy after 2 s: it answers 503' })
    })

    test('by http says that nobody listens', async () => {
      const { said } = await check({ http: 'http://127.0.0.1:1/' })
      expect(said).toBe('web: not healthy after 2 s: nothing listens there')
    })

    test('doesn’t wait for an answer for ever', async () => {
      const { said } = await check({ http: `http://127.0.0.1:${port}/slow` })
      expect(said).toBe('web: not healthy after 2 s: no answer within 5 s')
    })

    test('by tcp asks the container itself, at its own port', async () => {
      const tcp = createTcpServer().listen(0, '127.0.0.1')
      await new Promise((resolve) => tcp.once('listening', resolve))
      const { port: own } = tcp.address() as AddressInfo
      const ports = [{ host: 9, container: own, protocol: 'tcp' } as const]
      expect(await check({ tcp: 9 }, "says 'inspect bake-web' '127.0.0.1\\n'", { ports })).toEqual({ ended: '0 yes', said: '' })
      tcp.close()
      expect((await check({ tcp: 9 }, "says 'inspect bake-web' '\\n'", { ports })).said).toContain('docker has not started it')
    })

    test('by command gives every word as it is', async () => {
      await withRoot([service('web', { health: { command: HOSTILE } })], async (root) => {
        const { stdout } = await root.run(`${STUBS}says exec ''\n/usr/local/lib/bake/health-web; cat /run/asked`)
        expect(stdout.split('\0').slice(0, -1)).toEqual(['exec', 'bake-web', ...HOSTILE])
      })
    })

    test('that bake.yaml doesn’t have is the image’s own, or that the container runs', async () => {
      expect(await check(undefined, "says 'inspect bake-web' 'true healthy\\n'")).toEqual({ ended: '0 yes', said: '' })
      expect(await check(undefined, "says 'inspect bake-web' 'true \\n'")).toEqual({ ended: '0 no', said: '' })
    })

    test('ends when its container does', async () => {
      const { ended, said } = await check({ http: `http://127.0.0.1:${port}/` }, 'export MAINPID=999999')
      expect({ ended, said }).toEqual({ ended: '1', said: 'web: its container ended' })
    })

    test('is only a start when the proof says so', async () => {
      expect(
        await check({ http: 'http://127.0.0.1:1/' }, "export BAKE_HEALTH=started; says 'inspect bake-web' 'true starting\\n'"),
      ).toEqual({
        ended: '0 no',
        said: '',
      })
    })
  })

  describe('the instance’s user-data', () => {
    const read = (userData: string, more = '') =>
      withRoot([], async (root) => {
        const { stdout, stderr } = await root.run(`${STUBS}
          printf '%b' '${userData.replaceAll("'", "'\\''")}' >/run/user-data.in
          printf '#!/bin/bash\\necho /dev/seed\\n' >/run/stubs/blkid
          printf '#!/bin/bash\\nmkdir -p "\${@: -1}"; cp /run/user-data.in "\${@: -1}/user-data"; [ ! -e /run/proof.in ] || cp /run/proof.in "\${@: -1}/proof.sh"\\n' >/run/stubs/mount
          printf '#!/bin/bash\\nrm -f "$1"/*\\n' >/run/stubs/umount
          printf '#!/bin/bash\\n' >/run/stubs/udevadm
          chmod +x /run/stubs/*
          ${more}
          /usr/local/lib/bake/instance
          cat /run/bake/instance.env
          ls /run/bake
          cat /run/bake/proof.sh /run/bake/swap-record 2>/dev/null || true`)
        return { out: stdout.trim().split('\n'), said: stderr }
      })

    test('names release and commit', async () => {
      const { out, said } = await read('#cloud-config\\nusers: []\\n#bake release=v2.1/x+y sha=0123abcd\\r\\n')
      expect({ out, said }).toEqual({ out: ['BAKE_RELEASE=v2.1/x+y', 'BAKE_SHA=0123abcd', 'instance.env'], said: '' })
    })

    test('is believed in what bake knows only', async () => {
      const { out, said } = await read("#bake release=a$(reboot) path=/bin sha=a'b x\\n#bake sha=ok")
      expect(out).toEqual(['BAKE_SHA=ok', 'instance.env'])
      expect(said.split('\n')).toHaveLength(5)
    })

    test('may be packed', async () => {
      expect((await read('#bake sha=abc\\n', 'gzip /run/user-data.in; mv /run/user-data.in.gz /run/user-data.in')).out[0]).toBe(
        'BAKE_SHA=abc',
      )
    })

    test('asks for a proof, with what stands in beside it or in it', async () => {
      expect((await read('#bake proof=console\\n', 'echo echo hi >/run/proof.in')).out).toEqual([
        'instance.env',
        'proof',
        'proof.sh',
        'echo hi',
      ])
      const script = Buffer.from('echo in user-data\n').toString('base64')
      const lines = `#bake-proof ${script.slice(0, 9)}\\n#bake-proof ${script.slice(9)}\\n`
      expect((await read(`#bake proof=console\\n${lines}`)).out).toEqual([
        'instance.env',
        'proof',
        'proof.sh',
        'echo in user-data',
      ])
      expect((await read(lines)).out).toEqual(['instance.env'])
    })

    test('names the record of a stack that is swapped', async () => {
      expect((await read('#bake sha=abc swap=/bake/shop/swap/dev-1\\n')).out).toEqual([
        ...['BAKE_SHA=abc', 'instance.env', 'swap-record', '/bake/shop/swap/dev-1'],
      ])
      const { out, said } = await read('#bake swap=/other/x\\n')
      expect({ out, said }).toEqual({ out: ['instance.env'], said: 'swap record: /other/x is nothing that bake writes\n' })
    })

    test('may be missing', async () => {
      await withRoot([], async (root) => {
        const { status, stdout } = await root.run(`${STUBS}\n/usr/local/lib/bake/instance; ls /run/bake`)
        expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
      })
    })
  })

  describe('the proof', () => {
    const unit = (state: string, restarts = 0, enteredSeconds = 12) =>
      `ActiveState=${state}\\nNRestarts=${restarts}\\nActiveEnterTimestampMonotonic=${enteredSeconds * 1_000_000 + 345_678}\\n`
    const runs = (name: string, hex = 'a') =>
      `says 'inspect bake-${name}' 'image-${name}\\n'; says 'image inspect image-${name}' '127.0.0.1:5000/shop/${name}@${digest(hex)}\\n'`
    const healthy = (name: string) =>
      `${runs(name)}; says 'show bake-${name}.service' '${unit('active')}'; echo yes >/run/bake/${name}.checked`

    const prove = (services: Service[], script: string) =>
      withRoot(services, async (root) => {
        const { stdout, stderr } = await root.run(`${STUBS}
          mkdir -p /run/bake
          ${script}
          # The console is a file here, and switching off is only noted.
          sed -i 's,^    console=.*,    console=/run/console; : >/run/console,; s,>"$console",>>"$console",' /usr/local/lib/bake/proof
          sed -i 's,^    kill .*,,; s,^    dmesg .*,,' /usr/local/lib/bake/proof
          says poweroff ''
          /usr/local/lib/bake/proof report || true
          cat /run/console
          echo "asked: $(tr '\\0' ' ' </run/asked | grep poweroff)"`)
        const report = newReport()
        for (const line of stdout.split('\n')) readReportLine(report, line)
        expect(stdout).toContain('asked: poweroff --force')
        expect(stderr).toBe('')
        return report
      })

    test('reports every service that is healthy, when it was, and what it runs', async () => {
      const report = await prove([service('web'), service('queue.1')], `${healthy('web')}; ${healthy('queue.1')}`)
      const said = { type: 'service', state: 'healthy', seconds: 12.34, digest: digest('a') }
      expect(report).toMatchObject({ inputs: 'e'.repeat(64), ok: true, damaged: [] })
      expect([...report.services.values()]).toEqual([
        { ...said, name: 'web' },
        { ...said, name: 'queue.1' },
      ])
    })

    test('fails for another digest than the manifest’s', async () => {
      const report = await prove([service('web')], `${healthy('web')}; ${runs('web', 'b')}`)
      expect(report.ok).toBe(false)
      expect(report.services.get('web')).toMatchObject({
        state: 'failed',
        digest: digest('b'),
        why: `it runs ${digest('b')}, not ${digest('a')}`,
      })
    })

    test('fails after three restarts, with the health check’s reason and the journal', async () => {
      const report = await prove(
        [service('web')],
        `says 'show bake-web.service' '${unit('activating', 3)}'
        echo 'not healthy after 60 s: it says "no"' >/run/bake/web.why
        says CONTAINER_NAME=bake-web 'first\\tline \\\\ "quoted"\\033[31m\\ngr\\xc3\\xbc\\xc3\\x9fe\\n'
        mv '/run/says/CONTAINER_NAME=bake-web' '/run/says/--boot CONTAINER_NAME=bake-web'`,
      )
      expect(report).toMatchObject({ ok: false, damaged: [] })
      expect(report.services.get('web')).toMatchObject({
        state: 'failed',
        digest: '',
        why: 'not healthy after 60 s: it says "no"',
      })
      expect(report.logs.get('web')).toEqual(['first line \\ "quoted"[31m', 'grüße'])
    })

    test('fails for a hint of what stands in, before any other reason', async () => {
      const report = await prove(
        [service('web')],
        `says 'show bake-web.service' '${unit('failed')}'; mkdir /run/bake/proof.hints; echo 'no env file' >/run/bake/proof.hints/web; echo x >/run/bake/web.why`,
      )
      expect(report.services.get('web')).toMatchObject({ state: 'failed', why: 'no env file' })
    })

    test('takes a service without a check for up when it is up for 20 s and was not started again', async () => {
      const up = `read -r up _ </proc/uptime; up=\${up%.*}; ${runs('web')}; says 'show bake-web.service' "ActiveState=active\\nNRestarts=0\\nActiveEnterTimestampMonotonic=$(((up - 18) * 1000000))\\n"`
      const report = await prove([service('web')], `${up}; echo no >/run/bake/web.checked`)
      expect(report.services.get('web')).toMatchObject({ state: 'healthy' })
      const again = await prove(
        [service('web')],
        `${runs('web')}; says 'show bake-web.service' '${unit('active', 1)}'; echo no >/run/bake/web.checked`,
      )
      expect(again.services.get('web')).toMatchObject({ state: 'failed', why: 'it ended and was started again' })
    })

    test('asks for less, or for nothing, where the proof says so', async () => {
      const report = await prove(
        [service('web'), service('edge')],
        `mkdir /run/bake/proof.levels; echo started >/run/bake/proof.levels/web; echo skipped >/run/bake/proof.levels/edge
        ${runs('web')}; says 'show bake-web.service' '${unit('active', 0, 1)}'; echo no >/run/bake/web.checked`,
      )
      expect([...report.services.keys()]).toEqual(['web'])
      expect(report).toMatchObject({ ok: true })
      expect(report.services.get('web')).toMatchObject({ state: 'started' })
    })
  })

  describe('what stands in', () => {
    const db = {
      name: 'db',
      image: 'postgres:16',
      env: { A: HOSTILE.join('|') },
      command: HOSTILE,
      health: { command: ['pg_isready'] },
    }
    const services = [
      service('web', {
        envFile: '/etc/shop/deep/web.env',
        proof: { env: { A: 'x y', B: '$(id)' }, with: [db], level: 'healthy' },
      }),
      service('jobs', { envFile: '/etc/shop/jobs.env', proof: { env: {}, with: [db], level: 'started' } }),
      service('edge', { imds: true, proof: { env: { C: 'd' }, with: [], level: 'healthy' } }),
    ]
    const start = (script: string) =>
      withRoot(services, async (root) => {
        const { stdout, stderr } = await root.run(`${STUBS}${script}
          bash /run/bake-bake/proof.sh start
          for file in $(find /run/bake /etc/shop -type f | sort); do echo "# $file"; cat "$file"; done
          tr '\\n' '\\1' </run/asked | tr '\\0' '\\2' >/run/asked.line
          echo "# asked"; cat /run/asked.line; echo
          bash /run/bake-bake/proof.sh stop
          echo "# left"; find /run/bake /etc/shop 2>/dev/null || true`)
        expect(stderr).toBe('')
        const parts = stdout.split(/^# /m).slice(1)
        return new Map(parts.map((part) => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1).trimEnd()]))
      })

    test('is there before the services are, and is gone afterwards', async () => {
      const image = `docker.io_library_postgres@${digest('f')}`
      const files = await start(`
        says 'image inspect ${image}' x; says run id; says rm ''; says 'ps name=^_bake_stand_in_' '1234\\n'
        says 'inspect bake_stand_in_1' '172.17.0.2\\n'; says load ''; says exec ''`)
      expect(files.get('/run/bake/web.env')).toBe('BAKE_RUN_ARGS=" --add-host=db:172.17.0.2"')
      expect(files.get('/run/bake/jobs.env')).toBe('BAKE_RUN_ARGS=" --add-host=db:172.17.0.2"\nBAKE_HEALTH=started')
      expect(files.get('/run/bake/edge.env')).toBe('BAKE_RUN_ARGS=" --env-file=/run/bake/edge.proof-env"')
      expect(files.get('/etc/shop/deep/web.env')).toBe('A=x y\nB=$(id)')
      expect(files.get('/run/bake/proof.levels/jobs')).toBe('started')
      expect(files.get('/run/bake/proof.levels/edge')).toBe('skipped')
      expect(files.get('/run/bake/proof.hints/jobs')).toMatch(/^\/etc\/shop\/jobs\.env is not on the machine: write proof:/)
      expect(files.has('/run/bake/proof.hints/web')).toBe(false)
      const asked = files
        .get('asked')!
        .split('\x02\x01')
        .map((line) => line.split('\x02'))
      expect(asked.filter(([verb]) => verb === 'run')).toEqual([
        [
          'run',
          '--detach',
          '--pull=never',
          '--name',
          'bake_stand_in_1',
          `--env=A=${HOSTILE.join('|')}`,
          image.replaceAll('_', '/'),
          ...HOSTILE,
        ].map((word) => word.replaceAll('\n', '\x01')),
      ])
      expect(files.get('left')).toBe('/run/bake')
    })

    test('comes on EC2 on a volume that is known by its first bytes', async () => {
      const files = await start(`
        mkdir -p /run/sys/class/dmi/id /run/sys/block/{loop0,nvme0n1,nvme1n1} /run/dev
        echo 'Amazon EC2' >/run/sys/class/dmi/id/sys_vendor
        head -c 4096 /dev/zero >/run/dev/nvme0n1
        tar -cf /run/dev/nvme1n1 /etc/passwd 2>/dev/null
        cp -a /dev/null /run/dev/
        ln -s /proc/self/fd /run/dev/fd
        mount --bind /run/sys /sys
        mount --bind /run/dev /dev
        says load ''; says run id; says rm ''`)
      expect(files.get('asked')).toContain('load\x02--quiet\x02--input\x02/dev/nvme1n1\x02')
      expect(files.get('asked')!.match(/load/g)).toHaveLength(1)
    })

    test('is told as the reason of those that lack it', async () => {
      const files = await start('true')
      expect(files.get('/run/bake/proof.hints/web')).toBe('stand-in db: its image is not here')
    })
  })
})
