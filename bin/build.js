// npm run build: bundles src into dist, writes the manifest that lets a command load nothing but itself.
// In place rather than from scratch, because a running host or worker still imports from dist.
import { spawnSync } from 'node:child_process'
import { globSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Plugin } from '@oclif/core/config'
import { settings } from '@oclif/core/settings'
import { rolldown } from 'rolldown'
import pjson from '../package.json' with { type: 'json' }

const STALE_MS = 60 * 60 * 1000
const root = fileURLToPath(new URL('..', import.meta.url))
const inRoot = (path) => join(root, path)
const compiled = spawnSync(process.execPath, [inRoot('node_modules/typescript/bin/tsc'), '--project', root, '--noEmit'], {
  stdio: 'inherit',
})
if (compiled.status !== 0) process.exit(compiled.status ?? 1)

// One file per entry and per group of shared modules: reading the hundreds of files of oclif, zod, yaml and the AWS SDK costs a command 150 ms.
// What is large and loaded by few commands, or finds files beside itself, stays a package.
const entries = [...globSync('commands/**/*.ts', { cwd: inRoot('src') }), 'cli/main.ts']
const bundle = await rolldown({
  input: Object.fromEntries(entries.map((file) => [file.slice(0, -'.ts'.length), join(root, 'src', file)])),
  cwd: root,
  platform: 'node',
  external: ['dockerode', /^fauxqs/],
})
const { output } = await bundle.write({
  dir: inRoot('dist'),
  format: 'esm',
  entryFileNames: '[name].js',
  chunkFileNames: 'chunks/[name]-[hash].js',
})
await bundle.close()

// A running host may still want to load the chunks of the build before; older ones go.
const written = new Set(output.map(({ fileName }) => fileName))
for (const file of globSync('**/*.js', { cwd: inRoot('dist') }))
  if (!written.has(file) && (!file.startsWith('chunks') || Date.now() - statSync(join(root, 'dist', file)).mtimeMs > STALE_MS))
    rmSync(join(root, 'dist', file))

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
