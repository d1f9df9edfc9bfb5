import { existsSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'

// Before any other import, which is why those are dynamic: it halves them.
enableCompileCache()

const root = fileURLToPath(new URL('..', import.meta.url))
if (!existsSync(new URL('../oclif.manifest.json', import.meta.url))) {
  process.stderr.write(`error: ${root} is not built yet\nnext: run bin/setup there, or "npm ci" and "npm run build"\n`)
  process.exit(4)
}

const { main } = await import('../dist/cli/main.js')
await main(root)
