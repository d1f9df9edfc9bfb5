import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A file of this package by its path from the package's root, wherever this module was bundled to. */
export function packageFile(path: string): string {
  for (let dir = new URL('.', import.meta.url); ; dir = new URL('..', dir)) {
    const root = fileURLToPath(dir)
    if (existsSync(join(root, 'package.json'))) return join(root, path)
    if (dir.pathname === '/') throw new Error(`${path}: no package.json above ${import.meta.url}`)
  }
}

/** The version in package.json: hosts and clients of different ones don't mix. */
export const packageVersion = (): string =>
  (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version
