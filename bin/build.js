// npm run build: compiles src into dist, drops what has no source any more, writes the manifest that lets a command load nothing but itself.
// In place rather than from scratch, because a running host or worker still imports from dist.
import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Plugin } from '@oclif/core/config'
import { settings } from '@oclif/core/settings'
import pjson from '../package.json' with { type: 'json' }

const root = fileURLToPath(new URL('..', import.meta.url))
const compiled = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '--project', root], {
  stdio: 'inherit',
})
if (compiled.status !== 0) process.exit(compiled.status ?? 1)

for (const file of globSync('**/*.js', { cwd: join(root, 'dist') }))
  if (!existsSync(join(root, 'src', file.replace(/\.js$/, '.ts')))) rmSync(join(root, 'dist', file))

mkdirSync(join(root, 'dist/commands'), { recursive: true })
settings.enableAutoTranspile = false
const plugin = new Plugin({
  root,
  pjson,
  isRoot: true,
  ignoreManifest: true,
  errorOnManifestCreate: true,
  respectNoCacheDefault: true,
})
await plugin.load()

const manifest = join(root, 'oclif.manifest.json')
writeFileSync(`${manifest}.new`, `${JSON.stringify(plugin.manifest, null, 1)}\n`)
renameSync(`${manifest}.new`, manifest)
