/**
 * How many blocks per second bake puts over HTTPS: random content, to a counting server in a process of its own. Both share this machine's processors, so what is
 * measured is less than what a machine that only uploads does. Takes some seconds.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { median, round, say, timed } from '../support.ts'

const BLOCKS = 2_000
const LEAST_PER_SECOND = 400
const MIB_PER_BLOCK = 0.5

export interface UploadFigures {
  put_blocks_per_s: number
  put_mib_per_s: number
  /** Of the uploading process's processor time, percent. TLS: what sending takes over HTTPS more than over HTTP. */
  hash_cpu_percent: number
  tls_cpu_percent: number
  /** Processors that the uploading process and the server kept busy. */
  put_cpus: number
  server_cpus: number
}

interface Run {
  ms: number
  cpuMs: number
  hashMs: number
  blocks: number
}

export async function upload(runs = 3): Promise<UploadFigures> {
  const dir = mkdtempSync(join(tmpdir(), 'bake-bench-upload-'))
  try {
    const [key, certificate] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1']
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    timed('openssl', ['req', '-x509', ...kind, '-keyout', key, '-out', certificate, ...subject])
    const secure = await measure(runs, 'https', [key, certificate])
    const plain = await measure(1, 'http', [])
    const perSecond = (each: Run) => (each.blocks / each.ms) * 1000
    const rate = median(secure.runs.map(perSecond))
    const cpu = median(secure.runs.map((each) => each.cpuMs))
    const figures = {
      put_blocks_per_s: round(rate),
      put_mib_per_s: round(rate * MIB_PER_BLOCK),
      hash_cpu_percent: round((median(secure.runs.map((each) => each.hashMs)) / cpu) * 100),
      tls_cpu_percent: round((Math.max(0, cpu - plain.runs[0]!.cpuMs) / cpu) * 100),
      put_cpus: round(median(secure.runs.map((each) => each.cpuMs / each.ms))),
      server_cpus: round(secure.serverCpuMs / secure.runs.reduce((sum, { ms }) => sum + ms, 0)),
    }
    const limit = `${figures.put_cpus} processors here and ${figures.server_cpus} in the server, of ${availableParallelism()}; one thread sends`
    say(
      `upload: ${figures.put_blocks_per_s} blocks/s (${figures.put_mib_per_s} MiB/s) over HTTPS, bar ≥ ${LEAST_PER_SECOND}; ${limit}`,
    )
    say(
      `upload: of its processor time ${figures.hash_cpu_percent} % hashing, ${figures.tls_cpu_percent} % TLS; without TLS ${round(perSecond(plain.runs[0]!))} blocks/s`,
    )
    return figures
  } finally {
    rmSync(dir, { recursive: true })
  }
}

async function measure(runs: number, scheme: 'http' | 'https', tls: string[]): Promise<{ runs: Run[]; serverCpuMs: number }> {
  const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
  const server = spawn(process.execPath, [here('counting-server.ts'), ...tls], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]()
    const port = String((await lines.next()).value)
    const env = {
      ...process.env,
      AWS_ENDPOINT_URL_EBS: `${scheme}://127.0.0.1:${port}`,
      AWS_ACCESS_KEY_ID: 'bench',
      AWS_SECRET_ACCESS_KEY: 'bench',
      ...(tls[1] !== undefined && { NODE_EXTRA_CA_CERTS: tls[1] }),
    }
    const ask = async (): Promise<{ blocks: number; cpuMs: number }> => {
      server.kill('SIGUSR2')
      return JSON.parse(String((await lines.next()).value)) as { blocks: number; cpuMs: number }
    }
    const before = await ask()
    const found: Run[] = []
    for (let each = 0; each < runs; each++) {
      const { status, stdout, stderr } = spawnSync(process.execPath, [here('upload-client.ts'), String(BLOCKS)], {
        env,
        encoding: 'utf8',
      })
      if (status !== 0) throw new Error(`the upload ended with ${status}\n${stderr}`)
      found.push(JSON.parse(stdout) as Run)
    }
    const after = await ask()
    const put = after.blocks - before.blocks
    // With those that warm up.
    if (put !== runs * (BLOCKS + 100)) throw new Error(`the server counts ${put} blocks, and ${runs * (BLOCKS + 100)} were put`)
    return { runs: found, serverCpuMs: after.cpuMs - before.cpuMs }
  } finally {
    server.kill('SIGKILL')
    await once(server, 'exit')
  }
}
