/** Seconds for people: `0.4 s`, `42.0 s`, `2 min 05 s`, `1 h 02 min`. */
export function duration(seconds: number): string {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const two = (n: number) => String(n).padStart(2, '0')
  return hours > 0 ? `${hours} h ${two(minutes)} min` : `${minutes} min ${two(rest)} s`
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB']

/** Bytes in decimal units, as docker and registries show them: `0 B`, `812 B`, `0.3 MB`, `58 MB`, `1.2 GB`. */
export function size(bytes: number): string {
  let [value, unit] = [bytes, 0]
  // A value under 1000 of its unit, except that 300 kB reads better as 0.3 MB beside other sizes in MB.
  while (value >= (unit === 1 ? 100 : 1000) && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1]
  return `${unit === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`
}

/** How long ago, for people; a date from 30 days on. Both are ms since the epoch; the future (a clock set back) is `just now`. */
export function age(then: number, now = Date.now()): string {
  const seconds = Math.max(0, (now - then) / 1000)
  if (seconds < 10) return 'just now'
  if (seconds < 60) return `${Math.floor(seconds)} s ago`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`
  const days = Math.floor(seconds / 86_400)
  return days < 30 ? `${days} day${days === 1 ? '' : 's'} ago` : new Date(then).toISOString().slice(0, 10)
}

/** `sha256:1a2b3c4d5e6f…`, also inside a reference. For people only: hand-offs name whole digests. */
export const shortDigest = (text: string): string => text.replace(/(sha256:[0-9a-f]{12})[0-9a-f]{52}/g, '$1…')

export const shortCommit = (commit: string): string => commit.slice(0, 10)
