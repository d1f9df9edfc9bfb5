import { distance } from 'fastest-levenshtein'

/** The candidate that was probably meant: at most a third of its letters differ, or two of them changed places. */
export function closest(written: string, candidates: readonly string[]): string | undefined {
  const [best] = candidates.map((candidate) => ({ candidate, off: mistakes(written, candidate) })).sort((a, b) => a.off - b.off)
  return best && best.off <= Math.max(1, Math.floor(best.candidate.length / 3)) ? best.candidate : undefined
}

/** Levenshtein's distance, but a swap is one mistake: in `wbe` two letters of three differ from `web`. */
function mistakes(written: string, candidate: string): number {
  const swapped = [...written].sort().join('') === [...candidate].sort().join('')
  const off = distance(written, candidate)
  return swapped && off === 2 ? 1 : off
}
