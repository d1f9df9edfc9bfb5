// biome-ignore-all lint/suspicious/noTemplateCurlyInString: scripts
import { describe, expect, test } from 'vitest'
import { renderMachine } from '../../src/ami/render.ts'
import { canMount, makeDiskRoot } from './disk-root.ts'
import { plan, shop, standIns } from './plan.ts'

/** Made for these tests: keys that open nothing. */
const keygen = (path: string) =>
  `mkdir -p "$(dirname ${path})"; rm -f ${path}; ssh-keygen -q -t ed25519 -N '' -f ${path}; rm -f ${path}.pub`
const AWS_KEY = 'AKIAQ7R4ZT2MXBSVWKNE'
const LOGIN = Buffer.from('ann:a password').toString('base64')

const rendered = await renderMachine(plan(shop(), { standIns }), new Map())
const withSetup = (text: string) => renderMachine(plan([], { setup: [{ path: 'ops/setup.sh', text }] }), new Map())

describe.skipIf(!canMount)('in a chroot, as root,', () => {
  describe('install', () => {
    test('puts every file where it belongs and enables its units', async () => {
      using disk = makeDiskRoot(rendered)
      const { status, stdout, stderr } = await disk.run(`
        mkdir -p /etc/systemd/system /var/lib/bake/swap
        echo BAKE_IMAGE=x >/var/lib/bake/swap/web.env
        printf '[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n' | tee /etc/systemd/system/docker.service >/etc/systemd/system/bake-gone.service
        systemctl enable bake-gone.service 2>/dev/null
        step install
        ls /etc/systemd/system/multi-user.target.wants
        stat -c '%a %U %n' /etc/bake/manifest.json /usr/local/lib/bake/* /usr/local/bin/bake-release
        ls /etc/systemd/system/bake-gone.service /var/lib/bake/swap 2>&1 || true
        /usr/local/bin/bake-release`)
      expect(stderr).toBe('')
      expect(status).toBe(0)
      expect(stdout).toMatch(/^bake-phase: install begin$/m)
      expect(stdout).toMatch(/^bake-phase: install end$/m)
      for (const unit of ['net', 'instance', 'proof', 'swap', 'web', 'jobs', 'edge', 'queue.1'])
        expect(stdout).toContain(`bake-${unit}.service\n`)
      expect(stdout).toContain('docker.service\n')
      expect(stdout).toContain('755 root /usr/local/lib/bake/health-web\n')
      expect(stdout).toContain('644 root /etc/bake/manifest.json\n')
      expect(stdout).toContain("cannot access '/etc/systemd/system/bake-gone.service'")
      expect(stdout).not.toContain('wants/bake-gone')
      expect(stdout).toContain("cannot access '/var/lib/bake/swap'")
      expect(stdout).toContain(`release unknown\ncommit unknown\ninputs ${'e'.repeat(64)}\nbase disk ${'d'.repeat(64)}\n`)
      expect(stdout).toContain(`service queue.1 127.0.0.1:5000/shop/queue.1@sha256:${'a'.repeat(64)}\n`)
    })
  })

  describe('setup', () => {
    test('runs scripts by their first lines, as they are', async () => {
      const text = '#!/usr/bin/env -S perl -w\nprint "it runs: {{x}} \'$]\'\\n";\n'
      using disk = makeDiskRoot(await withSetup(text))
      const { status, stdout } = await disk.run('step setup')
      expect(status).toBe(0)
      expect(stdout).toMatch(/^it runs: \{\{x\}\} '5/m)
    })

    test('says which script failed', async () => {
      using disk = makeDiskRoot(await withSetup('echo so far >&2\nexit 7\n'))
      const { status, stderr } = await disk.run('step setup')
      expect(status).toBe(1)
      expect(stderr).toBe('so far\nbake: machine.setup: ops/setup.sh ended with 7\n')
    })

    const PLANTED: [what: string, script: string, said: RegExp][] = [
      ['an AWS key', `echo 'key = ${AWS_KEY}' >/opt-key`, /an AWS access key id \(AKIA…\) is in \/opt-key/],
      ['an SSH key', keygen('/home/ann/.ssh/id_ed25519'), /a private key is in \/home\/ann\/\.ssh\/id_ed25519/],
      [
        'a docker login',
        `mkdir -p /root/.docker; echo '{"auths":{"r.example":{"auth":"${LOGIN}"}}}' >/root/.docker/config.json`,
        /a docker login is in \/root\/\.docker\/config\.json/,
      ],
      [
        'a key in JSON',
        `printf '{"private_key": "%s"}' "$(${keygen('/run/k')}; sed -z 's/\\n/\\n/g' /run/k)" >/srv.json`,
        /a private key is in \/srv\.json/,
      ],
      [
        'a deleted AWS key',
        `echo 'AWS_ACCESS_KEY_ID=${AWS_KEY}' >/a; sync; rm /a`,
        /an AWS access key id \(AKIA…\) is on \/dev\/loop\d+ at byte \d+, in a file that was deleted again/,
      ],
      [
        'a deleted SSH key',
        `${keygen('/root/k')}; sync; rm /root/k`,
        /a private key is on \/dev\/loop\d+ at byte \d+, in a file that was deleted/,
      ],
      [
        'a deleted docker login',
        `echo '{"auths": {"r": {"auth": "${LOGIN}"}}}' >/c; sync; rm /c`,
        /a docker login is on \/dev\/loop\d+ at byte \d+, in a file that was deleted/,
      ],
      [
        'a secret behind a large file',
        `head -c 9000001 /dev/urandom >/big; printf ' ${AWS_KEY}' >>/big`,
        /an AWS access key id \(AKIA…\) is in \/big/,
      ],
    ]
    test.each(PLANTED)('finds %s that a script leaves', async (_, script, said) => {
      using disk = makeDiskRoot(await withSetup(script))
      const { status, stderr } = await disk.run('step setup')
      expect(stderr).toMatch(said)
      expect(stderr).toContain('bake: machine.setup left secrets on the disk')
      expect(stderr).not.toContain(AWS_KEY)
      expect(stderr).not.toContain(LOGIN)
      expect(status).toBe(1)
    })

    const HARMLESS: [what: string, script: string][] = [
      ['the example of AWS’s documents', 'echo AKIAIOSFODNN7EXAMPLE >/doc'],
      ['letters in the middle of a word', `echo 'xx${AWS_KEY}yy' >/blob`],
      ['a key’s first line without a key', "printf -- '-----BEGIN RSA PRIVATE KEY-----\\n' >/code.py"],
      [
        'a certificate',
        'openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=a -keyout /run/k -out /cert.pem 2>/dev/null || echo none >/cert.pem',
      ],
      ['a setting called auth', `echo '{"auth": "required", "auths": {}}' >/settings.json`],
      ['a key that was overwritten before it was deleted', `${keygen('/root/k')}; sync; shred -u /root/k`],
      ['a host key, which the step clean removes', keygen('/etc/ssh/ssh_host_ed25519_key')],
      ['a secret in memory', `echo ${AWS_KEY} >/run/secret`],
    ]
    test.each(HARMLESS)('leaves %s alone', async (_, script) => {
      using disk = makeDiskRoot(await withSetup(script))
      const { status, stderr } = await disk.run('step setup')
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    })

    test('is not to blame for what was there before', async () => {
      using disk = makeDiskRoot(await withSetup('true'))
      const { status } = await disk.run(`${keygen('/root/k')}; sync; rm /root/k; step setup`)
      expect(status).toBe(0)
    })
  })

  describe('clean and scan', () => {
    const DIRTY = `
      mkdir -p /etc/ssh /root/.ssh /home/ann/.ssh /root/.docker /home/ann/.docker /var/lib/cloud/instances/i-1 /var/lib/cloud/scripts/per-boot /var/log/journal/0123 /var/lib/dbus /var/lib/systemd
      ${keygen('/etc/ssh/ssh_host_ed25519_key')}
      echo ssh-ed25519 AAAA >/root/.ssh/authorized_keys
      echo ssh-ed25519 AAAA >/home/ann/.ssh/authorized_keys
      echo 'export SECRET=1' >/home/ann/.bash_history
      echo '{"auths":{"r.example":{"auth":"${LOGIN}"}}}' >/root/.docker/config.json
      echo '{"psFormat":"table"}' >/home/ann/.docker/config.json
      echo 0123456789abcdef0123456789abcdef | tee /etc/machine-id >/var/lib/dbus/machine-id
      ln -s instances/i-1 /var/lib/cloud/instance
      touch /var/lib/cloud/scripts/per-boot/mine /var/log/journal/0123/system.journal
      echo line | tee /var/log/syslog /var/log/syslog.1 /var/tmp/.hidden >/tmp/left
      echo seed >/var/lib/systemd/random-seed
      sync
    `

    test('remove what is this machine’s own, and leave what isn’t', async () => {
      using disk = makeDiskRoot(rendered)
      const { status, stdout, stderr } = await disk.run(`${DIRTY}
        step clean
        step scan
        echo ---
        find / -xdev -path /usr -prune -o \\( -type f -o -type l \\) -printf '%s %p\\n' | sort -k 2`)
      expect(stderr).toBe('')
      expect(status).toBe(0)
      expect(stdout).toMatch(/bake-phase: clean end[\s\S]*bake-phase: scan end/)
      const left = stdout
        .split('---\n')[1]!
        .trim()
        .split('\n')
        .filter((line) => !/ \/(?:bin|sbin|lib|lib64|etc\/(?:passwd|group))$/.test(line))
      expect(left).toEqual([
        '0 /etc/machine-id',
        '21 /home/ann/.docker/config.json',
        '0 /var/lib/cloud/scripts/per-boot/mine',
        '0 /var/log/syslog',
      ])
    })

    test('overwrite secrets: nothing of them is on the raw disk', async () => {
      using disk = makeDiskRoot(rendered)
      const { stdout } = await disk.run(`${DIRTY}
        disk=$(findmnt -no SOURCE / | tail -n 1)
        count() { sync; grep -c -a -e '${LOGIN}' -e 'OPENSSH PRIVATE KEY' <(dd if="$disk" bs=1M iflag=direct status=none) || true; }
        echo "before $(count)"
        step clean
        echo "after $(count)"`)
      expect(stdout).toMatch(/^before [1-9]/m)
      expect(stdout).toMatch(/^after 0$/m)
    })

    const LEFT: [what: string, script: string, said: RegExp][] = [
      [
        'authorized_keys',
        'mkdir -p /home/ann/.ssh; touch /home/ann/.ssh/authorized_keys',
        /^\/home\/ann\/\.ssh\/authorized_keys is still there$/m,
      ],
      ['a host key', keygen('/etc/ssh/ssh_host_rsa_key'), /^\/etc\/ssh\/ssh_host_rsa_key is still there$/m],
      ['a machine id', 'echo 1 >/etc/machine-id', /^\/etc\/machine-id is not empty$/m],
      ['an instance of cloud-init', 'mkdir -p /var/lib/cloud/instances/i-1', /^\/var\/lib\/cloud\/instances is still there$/m],
      ['a history', 'touch /root/.python_history', /^\/root\/\.python_history is still there$/m],
      [
        'a docker login',
        `mkdir -p /root/.docker; echo '{"auths":{"r":{"auth":"${LOGIN}"}}}' >/root/.docker/config.json`,
        /^\/root\/\.docker\/config\.json is still there$/m,
      ],
      ['an AWS key', `echo ${AWS_KEY} >/etc/app.conf`, /^an AWS access key id \(AKIA…\) is in \/etc\/app\.conf$/m],
      [
        'a deleted AWS key',
        `echo ${AWS_KEY} >/x; sync; rm /x`,
        /^an AWS access key id \(AKIA…\) is on \/dev\/loop\d+ at byte \d+, in a file that was deleted again$/m,
      ],
      ['a private key', keygen('/etc/shop/tls.key'), /^a private key is in \/etc\/shop\/tls\.key$/m],
      [
        'a volume’s key',
        keygen('/var/lib/docker/volumes/data/_data/k'),
        /^a private key is in \/var\/lib\/docker\/volumes\/data\/_data\/k$/m,
      ],
    ]
    test.each(LEFT)('scan fails because of %s', async (_, script, said) => {
      using disk = makeDiskRoot(rendered)
      const { status, stderr } = await disk.run(`: >/etc/machine-id; ${script}; step scan`)
      expect(stderr).toMatch(said)
      expect(stderr).toContain('bake: this machine would pass on what is its own, or secret\n')
      expect(status).toBe(1)
    })

    test('scan reads the disk piece by piece, and what lies across two of them once', async () => {
      using disk = makeDiskRoot(rendered)
      const { stderr } = await disk.run(`: >/etc/machine-id
        for at in $((32 * 1048576 - 7)) $((32 * 1048576)) $((48 * 1048576 - 20)); do
          printf '${AWS_KEY}' | dd of="$(findmnt -no SOURCE / | tail -n 1)" bs=1 seek=$at conv=notrunc,fsync status=none
          step scan || true
        done`)
      const found = [...stderr.matchAll(/at byte (\d+),/g)].map(([, byte]) => Number(byte) - 32 * 1048576)
      // The second overwrites the first; of the same key the first place is told.
      expect(found).toEqual([-7, 0, 0])
      expect(stderr.match(/would pass on/g)).toHaveLength(3)
    })

    test('scan erases keys in deleted files, which the base or a container had', async () => {
      using disk = makeDiskRoot(rendered)
      const { status, stdout, stderr } = await disk.run(
        `: >/etc/machine-id; ${keygen('/root/k')}; sync; rm /root/k; step scan; step scan`,
      )
      expect(stderr).toBe('')
      expect(status).toBe(0)
      expect(stdout.match(/erasing 1 private keys in deleted files/g)).toHaveLength(1)
    })

    test('on xfs as well: deleted secrets are found, deleted keys erased', async () => {
      // The least that mkfs.xfs makes.
      using disk = makeDiskRoot(rendered, 300, 'mkfs.xfs -q -f')
      const found = await disk.run(`: >/etc/machine-id; echo ${AWS_KEY} >/x; sync; rm /x; step scan`)
      expect(found.stderr).toMatch(
        /an AWS access key id \(AKIA…\) is on \/dev\/loop\d+ at byte \d+, in a file that was deleted again/,
      )
      using other = makeDiskRoot(rendered, 300, 'mkfs.xfs -q -f')
      const { status, stdout, stderr } = await other.run(
        `: >/etc/machine-id; ${keygen('/root/k')}; sync; rm /root/k; step scan; step scan`,
      )
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(stdout.match(/erasing 1 private keys in deleted files/g)).toHaveLength(1)
    })

    /** A secret in a file of its own, at byte $at of the disk $loop. */
    const PLANT = `mkdir -p /etc/ssh /var/log/journal; : >/etc/machine-id
        echo 'key = ${AWS_KEY}' >/secret; sync
        at=$(filefrag -v -b512 /secret | sed -n -E 's/^ *0: .*: +([0-9]+)\\.\\. .*/\\1/p')
        at=$((at * 512)) loop=$(findmnt -no SOURCE /)`

    test('scan looks at the ranges that it is given, and at what lies across their edges', async () => {
      using disk = makeDiskRoot(rendered)
      const { status, stdout, stderr } = await disk.run(`
        ${PLANT}
        rm /secret; sync
        look() { printf '%s\\n' "$@" >/run/ranges; BAKE_RANGES=/run/ranges step scan 2>&1 | sed 's/^bake-phase.*//' || true; }
        echo "before: $(look "0 $((at - 200000))" "$((at + 200000)) 4096")"
        echo "there: $(look "0 4096" "$at 512" "$((at + 400000)) 4096")"
        echo "across: $(look "$((at + 12)) 4096")"`)
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(stdout).toMatch(/^before: *$/m)
      expect(stdout).toMatch(
        /^there: \s*an AWS access key id \(AKIA…\) is on \/dev\/loop\d+ at byte \d+, in a file that was deleted/m,
      )
      expect(stdout).toMatch(/^across: \s*an AWS access key id/m)
      expect(stdout).not.toContain(AWS_KEY)
    })

    test('scan reads in the base what is as it was there, and tells of nothing that only the base has', async () => {
      using disk = makeDiskRoot(rendered)
      const { status, stdout, stderr } = await disk.run(`
        ${PLANT}
        dd if="$loop" of=/run/base bs=1M iflag=direct conv=sparse status=none
        look() { printf '%s\\n' "$@" >/run/ranges; BAKE_BASE=/run/base BAKE_RANGES=/run/ranges step scan 2>&1 | sed 's/^bake-phase.*//' || true; }
        echo "both: $(look "$at 512 base" "$((at + 400000)) 4096")"
        shred --zero --iterations=0 /secret; rm /secret; sync
        echo "base: $(look "$at 512 base" "$((at + 400000)) 4096")"
        { BAKE_RANGES=/run/ranges step scan 2>&1 || true; } | grep 'bake:'`)
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(stdout).toMatch(/^both: \s*an AWS access key id \(AKIA…\) is in \/secret$/m)
      expect(stdout).toMatch(/^base: *$/m)
      expect(stdout).toMatch(/bake: the disk could not be read/)
    })

    test('what is in images is theirs', async () => {
      using disk = makeDiskRoot(rendered)
      const { status, stderr } = await disk.run(
        `: >/etc/machine-id; ${keygen('/var/lib/docker/overlay2/0a/diff/app/test/key.pem')}; step scan`,
      )
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    })
  })

  test('there is no rehearsal', async () => {
    using disk = makeDiskRoot(rendered)
    const { status, stdout } = await disk.run('step rehearse')
    expect(status).toBe(0)
    expect(stdout).toContain('the proof is the first start')
  })
})
