import { z } from 'zod'
import { definition } from './definition.ts'

/** The JSON Schema of bake.yaml for editors, from the same definition that validates it; draft 7, which is what YAML language servers know best. */
export function jsonSchema(): object {
  const { $schema, ...schema } = z.toJSONSchema(definition, { io: 'input', target: 'draft-7' })
  return {
    $schema,
    title: 'bake.yaml',
    description: 'A project of bake: its images, its machine image and where releases go. docs/bake-yaml.md has every setting.',
    ...schema,
    patternProperties: { '^x-': { description: "The user's own, for anchors." } },
  }
}

const LINE_CHARS = 130

/** The text of schema/bake.schema.json, laid out as the formatter does: a list of plain values on one line where it fits. */
export const jsonSchemaText = (): string =>
  `${JSON.stringify(jsonSchema(), null, 2).replace(
    /^( *)(.*)\[\n([^[\]{}]*?)\n *\](,?)$/gm,
    (whole, indent, before, values: string, after) => {
      const line = `${indent}${before}[${values.trim().replaceAll(/,\n */g, ', ')}]${after}`
      return line.length > LINE_CHARS ? whole : line
    },
  )}\n`
