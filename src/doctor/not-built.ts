import type { Config } from '../config.ts'

/** The parts of a bake.yaml that are checked but that no code serves yet. Shrinks as bake grows. */
export function notBuiltYet(config: Config): string[] {
  const parts: [string, boolean][] = [['machine.baker: direct', config.machine?.baker === 'direct']]
  return parts.filter(([, used]) => used).map(([name]) => name)
}
