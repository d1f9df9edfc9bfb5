// Puts workers/user-data.sh into workers/fleet.yaml, so that the template is one file that CloudFormation takes as it is.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const START = '# >>> user-data.sh\n'
const END = '# <<< user-data.sh\n'
const inWorkers = (name) => fileURLToPath(new URL(`../workers/${name}`, import.meta.url))

const template = readFileSync(inWorkers('fleet.yaml'), 'utf8')
const indent = /^( *)# >>> user-data\.sh$/m.exec(template)[1]
const script = readFileSync(inWorkers('user-data.sh'), 'utf8')
  .split('\n')
  .map((line) => (line === '' ? '' : `${indent}    ${line}`))
  .join('\n')
const before = template.slice(0, template.indexOf(START) + START.length)
const after = template.slice(template.indexOf(`${indent}${END}`))
writeFileSync(inWorkers('fleet.yaml'), `${before}${indent}- |\n${script}${after}`)
