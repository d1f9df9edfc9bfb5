import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { jsonSchema, jsonSchemaText } from '../../src/config/schema.ts'

it('schema/bake.schema.json is what the definition says; else run: node bin/write-schema.js', async () => {
  expect(await readFile('schema/bake.schema.json', 'utf8')).toBe(jsonSchemaText())
})

type Node = {
  description?: string
  properties?: Record<string, Node>
  anyOf?: Node[]
  items?: Node
  additionalProperties?: Node | boolean
}

it('describes every setting of an image and every top-level setting, for editors', () => {
  const { properties } = jsonSchema() as Node
  const image = (properties!.images!.additionalProperties as Node).anyOf![0]!
  for (const [key, node] of [...Object.entries(properties!), ...Object.entries(image.properties!)])
    expect(node.description, key).toMatch(/\.$/)
})

it('docs/bake-yaml.md has every setting', async () => {
  const page = await readFile('docs/bake-yaml.md', 'utf8')
  const keys = (node: Node | boolean | undefined): string[] =>
    typeof node !== 'object'
      ? []
      : [
          ...Object.keys(node.properties ?? {}),
          ...[node.items, node.additionalProperties, ...(node.anyOf ?? []), ...Object.values(node.properties ?? {})].flatMap(
            keys,
          ),
        ]
  const missing = keys(jsonSchema() as Node).filter((key) => !new RegExp(`\\b${key}\\b`).test(page))
  expect(missing).toEqual([])
})
