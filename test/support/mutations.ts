/** Seeded, so that a failure comes back: mulberry32 (public domain, Tommy Ettinger). */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

const VALUES: unknown[] = [
  ...[null, true, false, 0, -1, 2, 1.5, 1e308, '', ' ', '..', '/', '-', '--help', '\u0000', '\ud800', 'ａ', '$(id)', 'ext::sh'],
  ...[[], {}, [[]], { toString: 1 }, ['a', 'b'], 'x'.repeat(5_000), 'a/../../b', 'HEAD', 'sha256:0', Number.MAX_SAFE_INTEGER],
]
const NAMES = ['__proto__', 'constructor', 'args', 'secrets', 'command', 'Version', 'version ', 'x'.repeat(300)]

/** Bodies made from a good one, each by one to three changes to its bytes or to its fields. */
export function* mutations(text: string, count: number, seed = 20_26): Generator<string> {
  const next = random(seed)
  const below = (end: number) => Math.floor(next() * end)
  const pick = <T>(from: readonly T[]): T => from[below(from.length)]!

  const bytes: ((body: string) => string)[] = [
    (body) => body.slice(0, below(body.length)),
    (body) => body.slice(below(body.length)),
    (body) => body + pick([...'{}[],":0x', '\n{}', body]),
    (body) => replaceAt(body, below(body.length), String.fromCharCode(32 + below(95))),
    (body) => replaceAt(body, below(body.length), ''),
    (body) => replaceAt(body, below(body.length), pick(['\u0000', '\ufffd', '\ud83d', '\\', '"'])),
    (body) => pick(['[', '{"a":']).repeat(1 + below(2_000)) + body,
  ]
  const fields: ((job: Record<string, unknown>) => void)[] = [
    (job) => delete job[pick(Object.keys(job))],
    (job) => Object.assign(job, { [pick(Object.keys(job))]: pick(VALUES) }),
    (job) =>
      Object.defineProperty(job, pick(NAMES), { value: pick(VALUES), enumerable: true, configurable: true, writable: true }),
    (job) => Object.assign(job, { version: below(5) }),
    (job) => Object.assign(job, { pins: [{ reference: pick(VALUES), digest: pick(VALUES), more: 1 }] }),
  ]
  for (let made = 0; made < count; made++) {
    let body = text
    for (let changes = 1 + below(3); changes > 0; changes--) {
      const job = next() < 0.5 ? parse(body) : undefined
      if (job === undefined) body = pick(bytes)(body)
      else {
        if (Object.keys(job).length > 0) pick(fields)(job)
        body = JSON.stringify(job)
      }
    }
    yield body
  }
}

const replaceAt = (text: string, at: number, by: string) => text.slice(0, at) + by + text.slice(at + 1)

function parse(body: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
