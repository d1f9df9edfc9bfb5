// The CLI straight from src, without a build: Node strips the types. Slower to start, because no manifest says which command is where.
import { fileURLToPath } from 'node:url'
import { settings } from '@oclif/core/settings'
import pjson from '../package.json' with { type: 'json' }

settings.enableAutoTranspile = false

const root = fileURLToPath(new URL('..', import.meta.url))
const oclif = { ...pjson.oclif, commands: './src/commands' }

try {
  const { run } = await import('@oclif/core/run')
  await run(process.argv.slice(2), { root, pjson: { ...pjson, oclif }, ignoreManifest: true })
} catch (error) {
  const { handle } = await import('@oclif/core/handle')
  await handle(error)
}
