// Child process of the ledger's tests: `node ledger-writer.ts <root> race|forever <name>`.
import { DirectoryLedger } from '../../src/io/ledger-directory.ts'

const [root, mode, name] = process.argv.slice(2)
if (root === undefined || name === undefined) throw new Error('usage: ledger-writer.ts <root> race|forever <name>')
const ledger = new DirectoryLedger(root)

if (mode === 'race') {
  // Wait for the word, so that both start together.
  process.stdout.write('ready\n')
  await new Promise((resolve) => process.stdin.once('data', resolve))
  const won: number[] = []
  for (let i = 0; i < 200; i++) if (await ledger.create(`race/${i}`, { by: name })) won.push(i)
  process.stdout.write(`${JSON.stringify(won)}\n`)
  process.stdin.destroy()
} else {
  const text = 'x'.repeat(20_000)
  process.stdout.write('ready\n')
  for (let i = 0; ; i++) {
    await Promise.all([
      ledger.put('crash/put', { i, text, end: true }),
      ledger.create(`crash/created/${name}-${i}`, { i, text, end: true }),
      ledger.append('crash/log', i % 3, Buffer.from(`${JSON.stringify({ i, text, end: true })}\n`)),
    ])
  }
}
