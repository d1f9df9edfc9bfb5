/** One sample of a scrape. */
export interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*'
const VALUE = '[+-]?(?:\\d+(?:\\.\\d+)?(?:[eE][+-]?\\d+)?|Inf)|NaN'
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (${VALUE})(?: \\d+)?$`)
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/y

/**
 * Parses Prometheus' text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/) and throws for what isn't it: lines of no form, samples
 * without a type before them or apart from their group, a name or labels twice, histograms whose buckets don't add up.
 */
export function parseExposition(text: string): { types: Map<string, string>; samples: Sample[] } {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const types = new Map<string, string>()
  const samples: Sample[] = []
  const seen = new Set<string>()
  const groups: string[] = []
  for (const line of text.slice(0, -1).split('\n')) {
    if (line === '') continue
    const meta = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line)
    if (meta) {
      const [, kind, name = '', rest = ''] = meta
      if (kind === 'TYPE') {
        if (types.has(name)) throw new Error(`${name} has two types`)
        if (!['counter', 'gauge', 'histogram', 'summary', 'untyped'].includes(rest)) throw new Error(`no type: ${line}`)
        types.set(name, rest)
      }
      continue
    }
    if (line.startsWith('#')) continue
    const [, name = '', body = '', value = ''] = SAMPLE.exec(line) ?? []
    if (name === '') throw new Error(`no sample: ${line}`)
    const labels = labelsOf(body, line)
    const family = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '')
    if (!types.has(family)) throw new Error(`no type before: ${line}`)
    if (groups.at(-1) !== family) {
      if (groups.includes(family)) throw new Error(`${family} is in two places`)
      groups.push(family)
    }
    const id = `${name}${JSON.stringify(Object.entries(labels).sort())}`
    if (seen.has(id)) throw new Error(`twice: ${line}`)
    seen.add(id)
    samples.push({ name, labels, value: Number(value.replace('Inf', 'Infinity')) })
  }
  for (const [family, type] of types) if (type === 'histogram') checkHistogram(family, samples)
  return { types, samples }
}

function labelsOf(body: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {}
  LABEL.lastIndex = 0
  while (LABEL.lastIndex < body.length) {
    const [, name = '', value = ''] = LABEL.exec(body) ?? []
    if (name === '') throw new Error(`no labels: ${line}`)
    if (name in labels) throw new Error(`a label twice: ${line}`)
    labels[name] = value.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped))
  }
  return labels
}

function checkHistogram(family: string, samples: readonly Sample[]): void {
  const of = (suffix: string) => samples.filter(({ name }) => name === family + suffix)
  for (const count of of('_count')) {
    const same = ({ labels: { le: _, ...labels } }: Sample) => JSON.stringify(labels) === JSON.stringify(count.labels)
    const buckets = of('_bucket').filter(same)
    const rising = buckets.every(({ value }, i) => i === 0 || value >= buckets[i - 1]!.value)
    if (!rising || buckets.at(-1)?.labels.le !== '+Inf' || buckets.at(-1)?.value !== count.value)
      throw new Error(`the buckets of ${family} don't add up`)
    if (of('_sum').filter(same).length !== 1) throw new Error(`${family} has no sum`)
  }
}
