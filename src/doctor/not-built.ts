import type { Config } from '../config.ts'

/** The parts of a bake.yaml that are checked but that no code serves yet. Shrinks as bake grows. */
export function notBuiltYet(config: Config): string[] {
  const parts: [string, boolean][] = [
    ['aws', config.aws !== undefined],
    ['machine', config.machine !== undefined],
    ['stacks', config.stacks.length > 0],
    ['fleet', Object.keys(config.fleet).length > 0],
    ['worker.bakes', config.worker.bakes],
    ['worker.repositories', config.worker.repositories.length > 0],
    ['worker.disk', config.worker.disk !== undefined],
    ['notify', config.notify.length > 0],
    ['secrets from SSM', config.images.some((image) => image.secrets.some(({ ssm }) => ssm !== undefined))],
  ]
  return parts.filter(([, used]) => used).map(([name]) => name)
}
