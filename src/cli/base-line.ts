import type { MadeBase } from '../context/base.ts'
import { duration, size } from './format.ts'

/** What `bake base` says at the end. */
export const baseLine = ({ found, bytes, docker, kernel, seconds }: MadeBase): string => {
  const what = `Debian 12, Linux ${kernel}, Docker ${docker}, room for ${size(bytes)}`
  return found ? `already made: ${what}` : `${what}: made in ${duration(seconds)}`
}
