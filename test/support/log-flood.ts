// Child process of the logs' tests: `node log-flood.ts <root> write <MiB>` or `… read`. Prints events, bytes and by how much its peak RSS grew.
import { setImmediate as turn } from 'node:timers/promises'
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'
import { followLog, LogWriter } from '../../src/jobs/logs.ts'
import { Redactor } from '../../src/jobs/redact.ts'

const [root, mode, mib] = process.argv.slice(2)
if (root === undefined) throw new Error('usage: log-flood.ts <root> write|read [MiB]')
const ledger = new DirectoryLedger(root)
const before = process.resourceUsage().maxRSS
let events = 0
let bytes = 0

if (mode === 'write') {
  await using log = new LogWriter(ledger, 'logs/flood', { redact: new Redactor(['a-secret-token-of-some-length']) })
  while (bytes < Number(mib) * 1024 * 1024) {
    const text = `${events} ${'some output of a build step '.repeat(4)}`
    await log.write({ type: 'line', step: 1, stream: 1, text, t: events++ })
    bytes += text.length
    // A producer reads packets between its lines.
    if (events % 500 === 0) await turn()
  }
} else {
  for await (const event of followLog(ledger, 'logs/flood', { signal: AbortSignal.timeout(60_000), pollMs: 20 })) {
    if (event.t !== events++) throw new Error(`event ${events} is out of order`)
    if (event.type === 'line') bytes += event.text.length
  }
}
const grownMb = (process.resourceUsage().maxRSS - before) / 1024
process.stdout.write(JSON.stringify({ events, bytes, grownMb }))
