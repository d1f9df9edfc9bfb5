// The CLI straight from src, without a build: Node strips the types. Slower to start, because no manifest says which command is where.
import { fileURLToPath } from 'node:url'
import pjson from '../package.json' with { type: 'json' }
import { main } from '../src/cli/main.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const oclif = { ...pjson.oclif, commands: './src/commands' }
await main({ root, pjson: { ...pjson, oclif }, ignoreManifest: true })
