import { Document, isMap, isPair, isSeq, visit } from 'yaml'
import type { FoundImage, LeftOut } from './found.ts'

export interface Draft {
  project: string
  /** Where the schema is, for editors. */
  schema?: string | undefined
  source: string
  images: FoundImage[]
  leftOut: LeftOut[]
}

/** An image as bake.yaml says it. */
export function settingsOf({ name: _, ...image }: FoundImage): object {
  return image
}

const LINE_CHARS = 100

/** The text of a new bake.yaml. */
export function renderConfig({ project, schema, source, images, leftOut }: Draft): string {
  const document = new Document({ project, images: Object.fromEntries(images.map((image) => [image.name, settingsOf(image)])) })
  visit(document, {
    Node(_, node, path) {
      // Lists and tables inside an image's settings on one line, as people write them.
      if ((isMap(node) || isSeq(node)) && path.filter(isPair).length >= 3 && JSON.stringify(node).length < LINE_CHARS)
        node.flow = true
    },
  })
  const head = [
    ...(schema === undefined ? [] : [`# yaml-language-server: $schema=${schema}`]),
    '# What a commit becomes. Every setting: docs/bake-yaml.md of bakehouse.',
  ]
  const body = document.toString({ lineWidth: 0, flowCollectionPadding: true })
  const left = leftOut.map(({ name, reason }) => `#   ${name}: ${reason}`.replaceAll(/\s*\n\s*/g, ' '))
  const about = [`# From ${source}.${left.length > 0 ? ' Left out:' : ''}`, ...left]
  return `${head.join('\n')}\n${body.replace(/^images:/m, `\n${about.join('\n')}\nimages:`)}`
}
