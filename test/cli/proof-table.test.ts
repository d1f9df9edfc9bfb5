import { expect, test } from 'vitest'
import { proofTable } from '../../src/cli/proof-table.ts'
import { palette } from '../../src/cli/style.ts'

const digest = (n: number) => `sha256:${String(n).repeat(64)}`
const web = { service: 'web', level: 'healthy', seconds: 31.24, digest: digest(1) } as const
const jobs = { service: 'jobs', level: 'started', seconds: 52.1, digest: digest(2) } as const

test('one row per service, one column of seconds per boot', () => {
  const boots = [
    { network: 'none', seconds: 60, services: [web, jobs] },
    { network: 'dead', seconds: 70, services: [{ ...web, seconds: 44.6 }] },
  ] as const
  expect(
    proofTable({ boots: boots.map((boot) => ({ ...boot, services: [...boot.services] })) }, palette(false), undefined),
  ).toEqual([
    'service  proven   no network card  dead network  image',
    'web      healthy           31.2 s        44.6 s  sha256:111111111111…',
    'jobs     started           52.1 s             -  sha256:222222222222…',
  ])
})
