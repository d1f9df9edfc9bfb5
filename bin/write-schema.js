// Writes schema/bake.schema.json from the definition of bake.yaml: node bin/write-schema.js (a test compares the two).
import { writeFileSync } from 'node:fs'
import { jsonSchemaText } from '../src/config/schema.ts'

writeFileSync(new URL('../schema/bake.schema.json', import.meta.url), jsonSchemaText())
