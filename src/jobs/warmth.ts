import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { NAME_PATTERN, sha256 } from '../names.ts'

const warmSchema = z.object({
  /** The publication whose steps are here. */
  digest: z.string(),
  by: z.enum(['built-here', 'warmed']),
  /** By this machine's clock, as the engine's times of use. */
  at: z.number(),
})
export type Warm = z.infer<typeof warmSchema>

/**
 * What an engine's build cache was last filled with, image by image: one small file each, on the machine's own disk beside the caches that it tells of. An engine
 * with other data has another id, and nothing here is said of it. Losing it costs a wrong word in a record, and warming what is warm.
 */
export class WarmthBook {
  readonly #dir: string

  constructor(dir: string) {
    this.#dir = dir
  }

  async of(engine: string, image: string): Promise<Warm | undefined> {
    const text = await readFile(this.#file(engine, image), 'utf8').catch(() => '')
    try {
      return warmSchema.parse(JSON.parse(text))
    } catch {
      return undefined
    }
  }

  async note(engine: string, image: string, warm: Warm): Promise<void> {
    const file = this.#file(engine, image)
    await mkdir(join(file, '..'), { recursive: true })
    await writeFile(`${file}.${process.pid}`, JSON.stringify(warm))
    await rename(`${file}.${process.pid}`, file)
  }

  /** All of it, what was filled last first. */
  async list(engine: string): Promise<({ image: string } & Warm)[]> {
    const images = await this.#images(engine)
    const found = await Promise.all(
      images.map(async (image) => {
        const warm = await this.of(engine, image)
        return warm && { image, ...warm }
      }),
    )
    return found.filter((each) => each !== undefined).sort((a, b) => b.at - a.at)
  }

  /**
   * After a garbage collection that took steps' results, the last of them used at `lostUseMs`: what was filled before is gone, or part of it, and so is what was
   * being filled then, which was noted at its end.
   */
  async forget(engine: string, lostUseMs: number): Promise<void> {
    const noted = await this.list(engine)
    const next = Math.min(...noted.map(({ at }) => at).filter((at) => at >= lostUseMs))
    for (const { image, at } of noted) if (at < lostUseMs || at === next) await rm(this.#file(engine, image), { force: true })
  }

  async #images(engine: string): Promise<string[]> {
    return (await readdir(this.#of(engine)).catch(() => [] as string[])).filter((name) => NAME_PATTERN.test(name))
  }

  #of(engine: string): string {
    return join(this.#dir, sha256(engine).slice(0, 16))
  }

  #file(engine: string, image: string): string {
    return join(this.#of(engine), image)
  }
}

/** What a finished build owes to which cache, warmest first. `before`: what the book said when it began. */
export function warmthOf(
  before: Warm | undefined,
  { steps, cacheFound }: { steps: { cached: number }; cacheFound: boolean },
): 'built-here' | 'warmed' | 'registry' | 'cold' {
  if (steps.cached === 0) return 'cold'
  return before?.by ?? (cacheFound ? 'registry' : 'cold')
}
