import { distance } from 'fastest-levenshtein'

/** The candidate that was probably meant: at most a third of its letters differ. */
export function closest(written: string, candidates: readonly string[]): string | undefined {
  const [best] = candidates.map((candidate) => ({ candidate, off: distance(written, candidate) })).sort((a, b) => a.off - b.off)
  return best && best.off <= Math.max(1, Math.floor(best.candidate.length / 3)) ? best.candidate : undefined
}
