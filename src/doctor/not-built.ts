import { LATER_EVENTS } from '../config/notify-definition.ts'
import type { Config } from '../config.ts'

/** What machine images and deploys will tell. */
const LATER = new Set<string>(LATER_EVENTS)

/** The parts of a bake.yaml that are checked but that no code serves yet. Shrinks as bake grows. */
export function notBuiltYet(config: Config): string[] {
  const parts: [string, boolean][] = [
    ['machine.baker: direct upon an AMI', config.machine?.baker === 'direct' && 'ami' in config.machine.base],
    ['worker.bakes', config.worker.bakes],
    ['notify on baked, deployed, rolled-back', config.notify.some(({ on }) => on.some((event) => LATER.has(event)))],
  ]
  return parts.filter(([, used]) => used).map(([name]) => name)
}
