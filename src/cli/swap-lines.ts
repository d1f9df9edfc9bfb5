import type { SwapResult } from '../context/swap.ts'

/** The result on stdout: what runs now, a line each. */
export function swapLines(done: SwapResult['done']): string[] {
  if ('services' in done)
    return done.services.flatMap(({ service, image }) => (image === undefined ? [] : [`${service}  ${image}`]))
  return done.instances.flatMap(({ instance, services }) =>
    services.flatMap(({ service, digest }) => (digest === undefined ? [] : [`${instance}  ${service}  ${digest}`])),
  )
}
