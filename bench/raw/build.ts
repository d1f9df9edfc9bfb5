import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { timed } from '../support.ts'

export const findBuildx = () =>
  ['/usr/libexec/docker/cli-plugins/docker-buildx', '/usr/lib/docker/cli-plugins/docker-buildx'].find(
    (path) => spawnSync(path, ['version']).status === 0,
  )!

/** What a person would type without bake, with the cache options that bake uses. */
export class Raw implements Disposable {
  readonly dir: string
  readonly #config = mkdtempSync(join(tmpdir(), 'bake-bench-raw-'))
  readonly #buildx: string
  readonly repository: string

  constructor(source: string, registry: string, name: string) {
    this.dir = mkdtempSync(join(tmpdir(), 'bake-bench-raw-'))
    cpSync(source, this.dir, { recursive: true })
    this.repository = `${registry}/raw/${name}`
    this.#buildx = findBuildx()
  }

  /** Milliseconds; with `tag` the image is called so. */
  build(tag = String(Date.now())): number {
    const cache = `type=registry,ref=${this.repository}-cache:main`
    return timed(
      this.#buildx,
      [
        'build',
        '--progress=plain',
        '--provenance=false',
        '--sbom=false',
        '--output',
        `type=image,name=${this.repository}:${tag},push=true,oci-mediatypes=true`,
        '--cache-from',
        cache,
        '--cache-to',
        `${cache},mode=max,image-manifest=true,oci-mediatypes=true,ignore-error=true`,
        this.dir,
      ],
      { env: { ...process.env, BUILDX_CONFIG: this.#config } },
    ).ms
  }

  prune() {
    timed(this.#buildx, ['prune', '--all', '--force'], { env: { ...process.env, BUILDX_CONFIG: this.#config } })
  }

  [Symbol.dispose]() {
    for (const dir of [this.dir, this.#config]) rmSync(dir, { recursive: true, force: true })
  }
}

/** Turns of two things measured side by side, in alternating order; pairs keep their round. */
export function alternate(runs: number, a: (n: number) => number, b: (n: number) => number): [number, number][] {
  return Array.from({ length: runs }, (_, n) => {
    if (n % 2 === 0) {
      const first = a(n)
      return [first, b(n)] as [number, number]
    }
    const second = b(n)
    return [a(n), second] as [number, number]
  })
}
