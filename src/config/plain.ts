type Loose<T> = { [K in keyof T]: T[K] | undefined }

/** The same object without the keys that are undefined: absent and undefined would hash and print differently. */
export const compact = <T extends object>(object: Loose<T>): T =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T

export const given = <A, B>(value: A | undefined, use: (value: A) => B): B | undefined =>
  value === undefined ? undefined : use(value)

/** Entries of a table in the order of `keys`; an object's own order puts `1` before `a`. */
export const order = <T>(values: Record<string, T>, keys: string[]): [string, T][] =>
  Object.entries(values).sort(([a], [b]) => keys.indexOf(a) - keys.indexOf(b))

type Scalar = string | number | boolean

/** `{ KEY: value }` or `[KEY=value]` → texts; of a key that a list has twice the last one counts, as in a shell. */
export const variablesOf = (raw: Record<string, Scalar> | string[] | undefined): Record<string, string> =>
  Object.fromEntries(
    Array.isArray(raw)
      ? raw.map((text) => [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)])
      : Object.entries(raw ?? {}).map(([key, value]) => [key, String(value)]),
  )

/** A command as a list of words; one text is split at its blanks (the definition lets no quotes through). */
export const wordsOf = (raw: Scalar[] | string | undefined): string[] | undefined =>
  typeof raw === 'string' ? raw.trim().split(/\s+/) : raw?.map(String)
