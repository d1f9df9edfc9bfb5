// What bin/test reads of a report of vitest's JSON reporter: `failed FILE` prints the test files that failed, one a line, from the repository's root;
// `counts FILE EXIT_CODE [failures]` prints `passed failed skipped`, of files that failed only with `failures`.
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'

const [what, file, exitCode, failures] = process.argv.slice(2)
const { testResults } = JSON.parse(readFileSync(file, 'utf8'))

if (what === 'failed') {
  for (const { name, status } of testResults) if (status === 'failed') console.log(relative(process.cwd(), name))
} else {
  const files = failures === 'failures' ? testResults : testResults.filter(({ status }) => status !== 'failed')
  const tests = files.flatMap(({ assertionResults }) => assertionResults)
  const count = (...states) => tests.filter(({ status }) => states.includes(status)).length
  const broken = files.filter(
    ({ status, assertionResults }) => status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
  )
  const failed = count('failed') + broken.length
  console.log(count('passed'), failed === 0 && exitCode !== '0' ? 1 : failed, count('skipped', 'pending', 'todo', 'disabled'))
}
