import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BuildRecord } from '../../src/jobs/records.ts'
import { newBuildId } from '../../src/names.ts'

/** Writes `count` ended builds, a minute apart, the newest a minute old, straight into a directory ledger: half of web, half of jobs, each 100th failed. */
export function writeBuilds(ledgerDir: string, count: number, now = Date.now()): BuildRecord[] {
  const dir = join(ledgerDir, 'builds')
  mkdirSync(dir, { recursive: true })
  return Array.from({ length: count }, (_, n) => {
    const askedAt = now - (n + 1) * 60_000
    const record: BuildRecord = {
      ...{ version: 1, build: newBuildId(askedAt), project: 'shop', repository: '/srv/shop', config: 'bake.yaml' },
      ...{ commit: n.toString(16).padStart(40, '0'), image: n % 2 === 0 ? 'web' : 'jobs', key: 'a'.repeat(64), branch: 'main' },
      ...{ priority: 'normal', rebuild: false, status: n % 100 === 99 ? 'failed' : 'built', worker: 'local', claim: 0 },
      ...{ askedAt, startedAt: askedAt + 1_000, endedAt: askedAt + 61_000, digest: `sha256:${'b'.repeat(64)}` },
    }
    writeFileSync(join(dir, record.build), JSON.stringify(record))
    return record
  })
}
