import type { Cancelled } from '../context/cancel.ts'

/** What `bake cancel` did to one build. */
export function cancelledLine({ build, status, outcome, others, forced }: Cancelled): string {
  if (outcome === 'ended') return `${build} had ended already: ${status}`
  if (outcome === 'detached')
    return `${build} detached; the build goes on for ${count(others)} (bake cancel ${build} --force stops it)`
  return `${build} cancelled${forced.length === 0 ? '' : `, and ${count(forced)} with it: ${forced.join(', ')}`}`
}

const count = (builds: string[]) => (builds.length === 1 ? '1 other' : `${builds.length} others`)
