import { expect, test } from 'vitest'
import { type Expected, faultsOf, newReport, readReportLine } from '../../src/ami/proof-report.ts'

const WEB = `sha256:${'1'.repeat(64)}`
const JOBS = `sha256:${'2'.repeat(64)}`
const INPUTS = 'a'.repeat(64)
const EXPECTED: Expected = {
  inputs: INPUTS,
  services: [
    { name: 'web', digest: WEB, level: 'healthy' },
    { name: 'jobs', digest: JOBS, level: 'started' },
  ],
}

const begin = { type: 'begin', inputs: INPUTS }
const web = { type: 'service', name: 'web', state: 'healthy', seconds: 31.2, digest: WEB }
const jobs = { type: 'service', name: 'jobs', state: 'started', seconds: 41, digest: JOBS }
const end = { type: 'end', ok: true }

const reportOf = (...lines: (object | string)[]) => {
  const report = newReport()
  for (const line of lines) readReportLine(report, typeof line === 'string' ? line : `bake-proof: ${JSON.stringify(line)}`)
  return report
}
const faults = (...lines: (object | string)[]) => faultsOf(reportOf(...lines), EXPECTED)

test('a report that names every service with its digest is a proof', () => {
  expect(faults(begin, web, jobs, end)).toEqual([])
  expect(reportOf(begin, web).services.get('web')).toMatchObject({ state: 'healthy', seconds: 31.2 })
})

test('lines of the console around and in front of it are no part of it', () => {
  expect(readReportLine(newReport(), '[   12.3] docker0: port 1 entered blocking state')).toBe(false)
  const prefixed = `[   31.000000] bash[412]: bake-proof: ${JSON.stringify(web)}`
  expect(faults(begin, '', prefixed, 'debian login: ', jobs, end)).toEqual([])
})

test.each([
  ['nothing came', [], ['the machine never began its proof']],
  ['it ended early', [begin, web, jobs], ['the machine ended before its proof did']],
  ['a service is missing', [begin, web, end], ['jobs: nothing was reported']],
  [
    'a service failed',
    [begin, { ...web, state: 'failed', why: 'exit code 1' }, jobs, { ...end, ok: false }],
    ['web: exit code 1'],
  ],
  ['another digest runs', [begin, { ...web, digest: JOBS }, jobs, end], [`web: runs ${JOBS}, not ${WEB}`]],
  ['it only started', [begin, { ...web, state: 'started' }, jobs, end], ['web: started, but no health check passed']],
  [
    'it is another disk',
    [{ ...begin, inputs: 'b'.repeat(64) }, web, jobs, end],
    [/made from other inputs \(bbbbbbbbbbbbbbbb, not aaaa/],
  ],
  ['the machine says no', [begin, web, jobs, { ...end, ok: false }], ['the machine says that its proof failed']],
])('no proof: %s', (_, lines, expected) => {
  expect(faults(...lines)).toEqual(expected.map((one) => (typeof one === 'string' ? one : expect.stringMatching(one))))
})

test('a line that the kernel wrote into, or that another version wrote, counts for nothing', () => {
  const cut = `bake-proof: ${JSON.stringify(web).slice(0, 30)}[   31.5] eth0: link up`
  const report = reportOf(begin, cut, { ...web, colour: 'red' }, { type: 'applause' }, jobs, end)
  expect(report.damaged).toHaveLength(3)
  expect(faultsOf(report, EXPECTED)).toEqual(['web: nothing was reported'])
})

test("the last lines of a failing unit's journal are kept", () => {
  const lines = Array.from({ length: 100 }, (_, i) => ({ type: 'log', name: 'web', text: `line ${i}` }))
  const kept = reportOf(begin, ...lines).logs.get('web')
  expect(kept).toHaveLength(60)
  expect(kept?.at(-1)).toBe('line 99')
})

test("without anything expected the machine's own judgement counts", () => {
  expect(faultsOf(reportOf(begin, web, end))).toEqual([])
  expect(faultsOf(reportOf(begin, { ...web, state: 'failed' }, { ...end, ok: false }))).toEqual(['web: failed'])
})
