import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { changeDisk } from '../../../src/io/change-disk.ts'
import { fileSystemsOf } from '../../../src/io/disk-file-systems.ts'
import { openLayers } from '../../../src/io/disk-layers.ts'
import { createOverlay } from '../../../src/io/qemu-img.ts'
import { toolEnvironment } from '../../../src/io/tool.ts'
import { packageFile } from '../../../src/package-root.ts'
import { bakesDirectly } from '../../support/bakes-directly.ts'
import { makeDisk } from '../../support/disk-maker.ts'
import { type DiskService, startDiskService } from '../../support/disk-service.ts'
import { leftBehind } from '../../support/left-behind.ts'
import { ENGINE, systemDisk } from './system-disk.ts'

const run = promisify(execFile)
const env = toolEnvironment()
const MIB = 1024 ** 2
const HELPER = packageFile('templates/direct/helper.sh')
describe.skipIf(!bakesDirectly)('a disk is', () => {
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'bake-change-'))
    await mkdir(join(dir, 'kit'))
  })
  afterEach(async () => {
    const [mounts, loops] = await Promise.all([readFile('/proc/mounts', 'utf8'), run('losetup', ['--all'], { env })])
    expect([mounts, loops.stdout].filter((text) => text.includes(dir))).toEqual([])
    await rm(dir, { recursive: true, force: true })
  })

  /** Steps that do nothing but what is given. */
  async function steps(own: Record<string, string> = {}): Promise<void> {
    await mkdir(join(dir, 'kit/steps'))
    for (const name of ['prepare', 'images', 'install', 'setup', 'rehearse', 'clean', 'scan'])
      await writeFile(join(dir, 'kit/steps', `${name}.sh`), own[name] ?? 'true\n')
  }

  interface How {
    where?: string
    mode?: 'first' | 'next'
    /** Through a service, which acts for nobody: whose files these are. */
    files?: 'nobody' | 'root'
    ports?: number[]
  }
  async function change(disk: string, { where = dir, mode = 'first', files, ports = [] }: How = {}) {
    await createOverlay(join(where, 'disk.qcow2'), { path: disk, format: 'raw' }, { tracked: true })
    if (files) await run('chown', ['-R', `${files}:`, dir])
    await using layer = await openLayers(disk, 'raw')
    const roots = (await fileSystemsOf(layer))!
    const lines: string[] = []
    const end = await changeDisk({
      ...{ way: files ? 'service' : 'root', script: HELPER, dir: where, roots, mode, explain: files !== undefined, ports },
      ...{ signal: AbortSignal.timeout(60_000), onLine: (line) => void lines.push(line) },
    })
    return { end, lines }
  }
  test.each<[string, Record<string, string>, string | RegExp]>([
    ['it has no engine', {}, 'it has no Docker Engine'],
    [
      'its engine doesn’t start',
      { ...ENGINE, 'usr/bin/dockerd': '#!/bin/sh\necho "time=now level=fatal msg=no such thing" >&2; exit 1\n' },
      /^its engine doesn't start in a chroot: .*no such thing/,
    ],
    [
      '/var is elsewhere',
      { 'etc/fstab': '# <what> /srv ext4\nUUID=1 / ext4 defaults\nUUID=2 /var ext4 defaults\n' },
      '/var is on a file system of its own',
    ],
    [
      'SELinux enforces',
      { 'etc/selinux/config': 'SELINUX=enforcing\n' },
      'SELinux enforces there, and this kernel gives files no labels',
    ],
    [
      'the engine’s data root is a flag',
      { ...ENGINE, 'etc/default/docker': 'DOCKER_OPTS="--data-root /data"\n' },
      "its engine's data root is a flag of its unit",
    ],
  ])('not fit when %s', async (_, files, reason) => {
    const { end } = await change(await systemDisk(dir, files))
    expect(end).toEqual({ kind: 'unfit', reason: typeof reason === 'string' ? reason : expect.stringMatching(reason) })
  })

  test('not fit when no file system has a system on it, or the kernel doesn’t know it', async () => {
    const disk = await makeDisk(join(dir, 'base.raw'), {
      scheme: 'mbr',
      partitions: [{ type: 0x83, startMib: 1, sizeMib: 20, fileSystem: 'ext4' }],
    })
    expect(await change(disk)).toMatchObject({ end: { kind: 'unfit', reason: 'there is no system on its file systems' } })
    // An incompatible feature that no kernel has: https://docs.kernel.org/filesystems/ext4/super.html
    const bytes = await readFile(disk)
    bytes.writeUInt32LE((bytes.readUInt32LE(MIB + 1024 + 0x60) | 0x80000000) >>> 0, MIB + 1024 + 0x60)
    await writeFile(disk, bytes)
    await rm(join(dir, 'disk.qcow2'))
    expect(await change(disk)).toMatchObject({
      end: { kind: 'unfit', reason: expect.stringMatching(/^this kernel doesn't mount its ext4: /) },
    })
  })

  test('changed by the steps, and reads so afterwards', async () => {
    const disk = await systemDisk(dir, ENGINE)
    await steps({
      install: 'dd if=/dev/urandom of=/big bs=1M count=3; mkdir -p /etc/new; echo "it is $BAKE_PARTITION" >/etc/new/file\n',
      clean: 'rm /big\n',
      scan: 'cat "$BAKE_RANGES" >/etc/new/ranges; [ -r "$BAKE_DISK" ]; ! grep -q . /proc/net/route || true\n',
    })
    expect(await change(disk)).toMatchObject({ end: { kind: 'done' } })
    const before = await readFile(disk)
    await using layer = await openLayers(join(dir, 'disk.qcow2'), 'qcow2')
    const now = await layer.read(0, layer.bytes)
    expect(layer.bytes).toBe(before.length)
    expect(now.includes('it is /dev/loop')).toBe(true)
    expect(before.includes('it is /dev/loop')).toBe(false)
    // Boot code and table are as they were.
    expect(now.subarray(0, MIB).equals(before.subarray(0, MIB))).toBe(true)
  })

  test('changed by steps that may make device nodes on it, and open none', async () => {
    const disk = await systemDisk(dir, ENGINE)
    // This machine's /dev/null, as any other device would be.
    const step = ['/node', '/run/node', '/tmp/node'].map(
      (path) => `mknod ${path} c 1 3; echo made; if (: <${path}) 2>/dev/null; then echo opened; fi; rm ${path}\n`,
    )
    await steps({ images: step.join('') })
    const { end, lines } = await change(disk)
    expect(end).toEqual({ kind: 'done' })
    expect(lines.filter((line) => /^(made|opened)$/.test(line))).toEqual(['made', 'made', 'made'])
  })

  test('scanned as a whole the first time: what is as it was in the base is read there, by whoever can’t write to it', async () => {
    const disk = await systemDisk(dir, { ...ENGINE, 'old/secret': 'MARK-OLD' })
    await steps({
      install: 'echo MARK-NEW >/new\n',
      scan: 'cat "$BAKE_RANGES"; ! echo x 2>/dev/null >>"$BAKE_BASE"\n',
    })
    const { end, lines } = await change(disk)
    expect(end).toEqual({ kind: 'done' })
    await using layer = await openLayers(join(dir, 'disk.qcow2'), 'qcow2')
    const [now, before] = [await layer.read(0, layer.bytes), await readFile(disk)]
    const ranges = lines.flatMap((line) => {
      const [, start, length, base] = /^(\d+) (\d+)( base)?$/.exec(line) ?? []
      return start ? [{ from: Number(start), to: Number(start) + Number(length), base: base !== undefined }] : []
    })
    const at = (mark: string) => ranges.find(({ from, to }) => from <= now.indexOf(mark) && now.indexOf(mark) < to)?.base
    expect([at('MARK-OLD'), at('MARK-NEW')]).toEqual([true, false])
    for (const { from, to } of ranges.filter(({ base }) => base))
      expect(now.subarray(from, to).equals(before.subarray(from, to))).toBe(true)
    // Nothing is left out but zeros.
    for (const { from, to } of ranges) now.fill(0, from, to)
    expect(now.equals(Buffer.alloc(now.length))).toBe(true)
  })

  test('scanned where it was written when it was baked before: also what was deleted again', async () => {
    const disk = await systemDisk(dir, { ...ENGINE, 'old/secret': 'MARK-OLD' })
    await steps({
      install: 'for n in 1 2 3 4 5; do echo "MARK-$n" >/gone-$n; done; sync; rm /gone-*\n',
      scan: 'cat "$BAKE_RANGES"\n',
    })
    const { end, lines } = await change(disk, { mode: 'next' })
    expect(end).toEqual({ kind: 'done' })
    const ranges = lines.filter((line) => /^\d+ \d+$/.test(line)).map((line) => line.split(' ').map(Number) as [number, number])
    await using layer = await openLayers(join(dir, 'disk.qcow2'), 'qcow2')
    const now = await layer.read(0, layer.bytes)
    const looked = (at: number) => ranges.some(([start, length]) => start <= at && at < start + length)
    const found = [1, 2, 3, 4, 5].map((n) => now.indexOf(`MARK-${n}`)).filter((at) => at >= 0)
    expect(found.map(looked)).toEqual(found.map(() => true))
    expect(found.length).toBeGreaterThan(0)
    expect(looked(now.indexOf('MARK-OLD'))).toBe(false)
  })

  test('given of this machine’s loopback the ports that it is told, and no others', async () => {
    const disk = await systemDisk(dir, ENGINE)
    await using servers = new AsyncDisposableStack()
    const [told, other] = await Promise.all(
      [0, 1].map(async () => {
        const server = createServer((socket) => void socket.end('hello\n')).listen(0, '127.0.0.1')
        servers.defer(() => void server.close())
        await once(server, 'listening')
        return (server.address() as AddressInfo).port
      }),
    )
    const reached = (host: string, port: number) =>
      `if (exec 3<>/dev/tcp/${host}/${port} && grep -q hello <&3) 2>/dev/null; then echo "reached ${host}:${port}"; fi\n`
    await steps({
      images: ['127.0.0.1', '10.0.2.2'].flatMap((host) => [told!, other!].map((port) => reached(host, port))).join(''),
    })
    const { end, lines } = await change(disk, { ports: [told!] })
    expect(end).toEqual({ kind: 'done' })
    expect(lines.filter((line) => line.startsWith('reached'))).toEqual([`reached 127.0.0.1:${told}`, `reached 10.0.2.2:${told}`])
  })

  test('not changed when a step fails, which says why', async () => {
    const disk = await systemDisk(dir, ENGINE)
    await steps({ images: 'echo "bake: no such image" >&2; exit 1\n', install: 'touch /never\n' })
    const { end, lines } = await change(disk)
    expect(end).toEqual({ kind: 'failed', how: 'exit code 1' })
    expect(lines).toContain('bake: no such image')
  })

  test('not changed when a step says that all is well, and fails', async () => {
    const disk = await systemDisk(dir, ENGINE)
    await steps({ images: 'printf "bake-exit: 0\\nbake-exit: 0"; exit 7\n' })
    expect(await change(disk)).toMatchObject({ end: { kind: 'failed', how: 'exit code 1' } })
  })

  test('changed also when much is said beside, to the end', async () => {
    const disk = await systemDisk(dir, ENGINE)
    await steps({ scan: 'for n in {1..20000}; do echo "$n" >&2; done\n' })
    const { end, lines } = await change(disk)
    expect(end).toEqual({ kind: 'done' })
    expect(lines.filter((line) => line === '20000')).toHaveLength(1)
  })

  test.each<[string, string[], object]>([
    [
      'its /run is a link to this machine’s root',
      ['rmdir run', 'symlink run /'],
      { kind: 'unfit', reason: 'its /run is no directory' },
    ],
    ['its resolv.conf leads out of it', [`symlink etc/resolv.conf /run/${'../'.repeat(12)}VICTIM`], { kind: 'done' }],
  ])('changed without a trace elsewhere when %s', async (_, edits, expected) => {
    const disk = await systemDisk(dir, ENGINE)
    await steps()
    const victim = join(dir, 'victim')
    for (const edit of edits)
      await run('debugfs', ['-w', '-R', edit.replace('VICTIM', victim.slice(1)), `${disk}?offset=${MIB}`], { env })
    const { end } = await change(disk)
    expect(end).toEqual(expected)
    await expect(stat(victim)).rejects.toThrow('ENOENT')
  })

  test('not changed when this machine’s disk gets full: never half of it', async () => {
    const disk = await systemDisk(dir, ENGINE)
    await steps({ install: 'dd if=/dev/urandom of=/big bs=1M count=40 2>/dev/null || true\n' })
    const full = join(dir, 'full')
    await mkdir(full)
    // A mount of its own for this test's process only would not be seen by the script's.
    await run('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'tmpfs', full], { env })
    try {
      await cp(join(dir, 'kit'), join(full, 'kit'), { recursive: true })
      const { end, lines } = await change(disk, { where: full })
      expect(end.kind).toBe('failed')
      expect(lines.join('\n')).toMatch(/^bake: what was written to the disk got lost; .* are free in /m)
    } finally {
      await run('umount', [full], { env })
    }
  })

  describe('asked through a socket, by a user', () => {
    let service: DiskService
    beforeEach(async () => {
      service = await startDiskService(HELPER, 'nobody')
      vi.stubEnv('BAKE_DISK_SOCKET', service.socket)
    })
    afterEach(async () => {
      vi.unstubAllEnvs()
      await service[Symbol.asyncDispose]()
    })

    test('it is changed with that user’s rights, and nothing of root’s lies there', async () => {
      const disk = await systemDisk(dir, { ...ENGINE, 'old/file': 'MARK-OLD' })
      await steps({
        install: 'echo MARK-NEW >/new\n',
        scan: 'cat "$BAKE_RANGES"\n',
      })
      const { end, lines } = await change(disk, { files: 'nobody' })
      expect(end).toEqual({ kind: 'done' })
      expect(lines.some((line) => / base$/.test(line))).toBe(true)
      await using layer = await openLayers(join(dir, 'disk.qcow2'), 'qcow2')
      expect((await layer.read(0, layer.bytes)).includes('MARK-NEW')).toBe(true)
      expect(await readFile(join(dir, 'extents'), 'utf8')).toMatch(/^offset 1048576\n[\s\S]*^File size of \/new is /m)
      expect((await run('find', [dir, '-not', '-user', 'nobody'])).stdout).toBe('')
    })

    test('it isn’t when the disk is another user’s', async () => {
      const disk = await systemDisk(dir, ENGINE)
      await steps({ install: 'touch /never\n' })
      await chmod(dir, 0o755)
      const { end } = await change(disk, { files: 'root' })
      expect(end).toEqual({ kind: 'unfit', reason: expect.stringMatching(/doesn't show the disk: .*Permission denied/) })
    })

    test('what stands on a file that is another user’s isn’t shown either', async () => {
      const disk = await systemDisk(dir, ENGINE)
      await steps()
      const elsewhere = await mkdtemp(join(tmpdir(), 'bake-elsewhere-'))
      await rename(disk, join(elsewhere, 'base.raw'))
      const { end } = await change(join(elsewhere, 'base.raw'), { files: 'nobody' })
      await rm(elsewhere, { recursive: true })
      expect(end).toEqual({ kind: 'unfit', reason: expect.stringMatching(/doesn't show the disk: .*Permission denied/) })
    })

    async function answer(fields: string[]): Promise<string> {
      const socket = connect(service.socket)
      socket.write(fields.map((field) => `${field}\0`).join(''))
      // Asked in full, the end would end what it does.
      if (fields.length < 5) socket.end()
      return text(socket)
    }
    test('nor when that user has no way to the directory', async () => {
      const open = join(dir, 'open')
      await mkdir(open, { mode: 0o755 })
      expect(await answer([open, 'ext4:0:1', 'first', 'quiet', ''])).toBe(
        `bake: user nobody has no way to ${open}\n\nbake-exit: 2\n`,
      )
    })

    test.each<[string, string[], string]>([
      ['nothing that it knows', ['/tmp'], 'the question ends too early'],
      ['for another file system', ['/tmp', 'btrfs:0:1', 'first', 'quiet', ''], 'ROOTS are TYPE:OFFSET:LENGTH'],
      ['for a line more', ['/tmp', 'ext4:0:1\n', 'first', 'quiet', ''], 'ROOTS are TYPE:OFFSET:LENGTH'],
      ['for another mode', ['/tmp', 'ext4:0:1', 'last', 'quiet', ''], 'MODE is first or next'],
      ['for another telling', ['/tmp', 'ext4:0:1', 'first', 'loud', ''], 'EXPLAIN is explain or quiet'],
      ['for a flag in place of a port', ['/tmp', 'ext4:0:1', 'first', 'quiet', '1,--x'], 'PORTS are numbers'],
      ['for a relative directory', ['tmp', 'ext4:0:1', 'first', 'quiet', ''], 'DIR is absolute'],
      ['for no directory', ['/nowhere', 'ext4:0:1', 'first', 'quiet', ''], 'there is no directory /nowhere'],
    ])('the helper refuses when it is asked %s', async (_, fields, reason) => {
      expect(await answer(fields)).toBe(`bake: ${reason}\nbake-exit: 2\n`)
    })

    test('a step goes on for as long as somebody waits for it', async () => {
      const disk = await systemDisk(dir, ENGINE)
      await steps({ install: 'echo it goes on; sleep 100\n' })
      await createOverlay(join(dir, 'disk.qcow2'), { path: disk, format: 'raw' }, { tracked: true })
      await run('chown', ['-R', 'nobody:', dir])
      const gone = new AbortController()
      const roots = [{ type: 'ext4', offset: MIB, length: 60 * MIB }]
      const going = changeDisk({
        ...{ way: 'service', script: HELPER, dir, roots, mode: 'first', explain: false, ports: [], signal: gone.signal },
        onLine: (line) => void (line === 'it goes on' && gone.abort(new Error('nobody waits'))),
      })
      await expect(going).rejects.toThrow('nobody waits')
      await service.idle()
      expect(await leftBehind(dir)).toEqual([])
    })
  })
})
