import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { faultsOf, newReport, readReportLine } from '../src/ami/proof-report.ts'
import { seedFiles } from '../src/ami/seed-files.ts'
import { bootMachine } from '../src/io/qemu.ts'
import type { MachineNetwork } from '../src/io/qemu-arguments.ts'
import { convertImage } from '../src/io/qemu-img.ts'
import { makeSeed } from '../src/io/seed.ts'
import { baseDisk } from '../test/support/base-disk.ts'
import { editDisk } from '../test/support/disk-edit.ts'
import { median, Project, round, say } from './support.ts'

const SIZES_MB = [50, 300, 1000]
/** No image is one file: layers of this many MB. */
const LAYER_MB = 50

/**
 * Power-on until every service is healthy: of a baked disk without a network card, and of the same disk without its images, which pulls them by digest
 * from a registry of this machine. `parts`: sizes in MB, all of them unless told.
 */
export default async function boot(runs = 3, parts?: string[]): Promise<object> {
  const sizes = parts?.map(Number) ?? SIZES_MB
  say('the base disk, unless it is there')
  const { disk } = await baseDisk()
  const figures = []
  for (const size of sizes) {
    using project = new Project(app(disk, size))
    project.git('tag', 'v1')
    say(`${size} MB: baking`)
    const { image, images } = JSON.parse(project.bake('ami', '--release', 'v1', '--no-verify', '--json').stdout) as {
      image: { path: string }
      images: { repository: string; digest: string }[]
    }
    const dir = mkdtempSync(join(tmpdir(), 'bake-bench-boot-'))
    try {
      const raw = join(dir, 'baked.raw')
      await convertImage({ path: image.path, format: 'qcow2' }, { path: raw, format: 'raw' })
      const empty = join(dir, 'empty.raw')
      await editDisk(raw, empty, withoutImages(`${images[0]!.repository}@${images[0]!.digest}`))
      const seed = join(dir, 'seed.img')
      await makeSeed(seed, seedFiles({ instance: 'bake-bench', facts: { proof: 'console' } }))
      const times: { baked: number[]; pulled: number[] } = { baked: [], pulled: [] }
      for (let n = 0; n < runs; n++) {
        times.baked.push(await untilHealthy(raw, 'none', seed, dir))
        times.pulled.push(await untilHealthy(empty, { hostForwards: [] }, seed, dir))
        say(`${size} MB, ${n + 1}/${runs}: baked ${round(times.baked.at(-1)!)} s, pulled ${round(times.pulled.at(-1)!)} s`)
      }
      const [baked, pulled] = [median(times.baked), median(times.pulled)]
      say(`${size} MB: baked ${round(baked)} s, pulled ${round(pulled)} s, ${(pulled / baked).toFixed(2)} × as long`)
      figures.push({ image_mb: size, baked_s: round(baked), pulled_s: round(pulled) })
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  }
  return figures
}

async function untilHealthy(path: string, network: MachineNetwork, seed: string, dir: string): Promise<number> {
  const report = newReport()
  const started = performance.now()
  let ended = 0
  await using machine = await bootMachine({
    ...{ disk: { path, format: 'raw' }, architecture: 'amd64', firmware: 'bios', network, seed, dir },
    ...{ memoryMiB: 2048, cpus: 2, accelerator: 'tcg' },
    console(line) {
      readReportLine(report, line)
      if (report.ok !== undefined) ended ||= performance.now() - started
    },
  })
  await machine.off()
  const faults = faultsOf(report)
  if (faults.length > 0) throw new Error(`${faults.join('\n')}\n${machine.last().join('\n')}`)
  return ended / 1000
}

/** The engine's store is emptied, and the unit pulls first; the registry on this machine's 127.0.0.1 is reached as at a bake. */
const withoutImages = (reference: string): string => {
  const port = /:(\d+)\//.exec(reference)![1]
  return `
rm -rf var/lib/docker
mkdir -p etc/systemd/system/bake-web.service.d
cat >usr/local/lib/bake/pull <<'SH'
#!/bin/sh
systemd-run --quiet --collect --unit=registry --socket-property=ListenStream=127.0.0.1:${port} /lib/systemd/systemd-socket-proxyd 10.0.2.2:${port}
until docker pull --quiet ${reference}; do sleep 0.5; done
SH
chmod +x usr/local/lib/bake/pull
printf '[Service]\\nExecStartPre=/usr/local/lib/bake/pull\\nTimeoutStartSec=1800\\n' >etc/systemd/system/bake-web.service.d/pull.conf`
}

/** Content that no compression helps with. */
function app(disk: string, size: number): Record<string, string | Buffer> {
  const parts = Array.from({ length: Math.ceil(size / LAYER_MB) }, (_, n) => `part-${n}`)
  const bytes = Math.round((size / parts.length) * 1e6)
  return {
    'bake.yaml': `project: bench
images:
  web: { context: web }
machine:
  base: { disk: ${disk} }
  services:
    web: { image: web, ports: ["80:3000"], health: { http: "http://127.0.0.1:80/", within: 10m } }
`,
    'web/Dockerfile': `FROM scratch\nCOPY --chmod=755 busybox /bin/\nCOPY index.html /www/\n${parts.map((part) => `COPY ${part} /data/\n`).join('')}ENV PATH=/bin\nCMD ["busybox", "httpd", "-f", "-p", "3000", "-h", "/www"]\n`,
    'web/busybox': readFileSync('/bin/busybox'),
    'web/index.html': 'here\n',
    ...Object.fromEntries(parts.map((part) => [`web/${part}`, randomBytes(bytes)])),
  }
}
