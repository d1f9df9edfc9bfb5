// Child process of the heartbeat's test: beats, says when it has lost its lease, and whether a check right after a pause noticed first.
// `node heartbeat-owner.ts <root> <owner> <leaseMs>`
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { Heartbeat } from '../../src/jobs/heartbeat.ts'

const [root, owner, leaseMs] = process.argv.slice(2)
if (root === undefined || owner === undefined) throw new Error('usage: heartbeat-owner.ts <root> <owner> <leaseMs>')
const say = (what: object) => process.stdout.write(`${JSON.stringify(what)}\n`)
const heartbeat = new Heartbeat(new DirectoryLedger(root), owner, { leaseMs: Number(leaseMs) })
heartbeat.lost.addEventListener('abort', () => say({ lost: true, code: heartbeat.lost.reason.code }))
await heartbeat.start()
say({ started: true })
// A step of work every few ms, as a story has: the first one after a pause must not be taken.
let lastStep = performance.now()
const work = setInterval(() => {
  const paused = performance.now() - lastStep > Number(leaseMs)
  try {
    heartbeat.check()
    if (paused) say({ worked: 'after its lease' })
  } catch (error) {
    clearInterval(work)
    say({ stopped: (error as { code: string }).code })
  }
  lastStep = performance.now()
}, 5)
