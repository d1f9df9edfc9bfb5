import type { z } from 'zod'

type Schema = z.core.$ZodType

/** The schemas that a value at `path` may have: one, or several where a union allows other shapes on the way. */
export function schemasAt(schema: Schema, path: readonly PropertyKey[]): Schema[] {
  const [key, ...rest] = path
  if (key === undefined) return [schema]
  return shapesOf(schema).flatMap((shape) => {
    const { def } = (shape as z.core.$ZodTypes)._zod
    if (def.type === 'array') return schemasAt(def.element, rest)
    if (def.type === 'record') return schemasAt(def.valueType, rest)
    const inner = def.type === 'object' ? def.shape[String(key)] : undefined
    return inner === undefined ? [] : schemasAt(inner, rest)
  })
}

/** Sees through `optional` and unions. */
function shapesOf(schema: Schema): Schema[] {
  const { def } = (schema as z.core.$ZodTypes)._zod
  if (def.type === 'optional') return shapesOf(def.innerType)
  return def.type === 'union' ? def.options.flatMap((option) => shapesOf(option)) : [schema]
}

/** The keys that the table at `path` may have; of several tables those of the one that fits `present` best. */
export function knownKeys(schema: Schema, path: readonly PropertyKey[], present: readonly string[]): string[] {
  const hits = (keys: string[]) => keys.filter((key) => present.includes(key)).length
  return (
    schemasAt(schema, path)
      .flatMap((found) => shapesOf(found))
      .flatMap((shape) => {
        const { def } = (shape as z.core.$ZodTypes)._zod
        return def.type === 'object' ? [Object.keys(def.shape)] : []
      })
      .sort((a, b) => hits(b) - hits(a))[0] ?? []
  )
}
