import { isDeepStrictEqual } from 'node:util'
import type { Found, Resource, ResourceStore } from './aws-resource.ts'
import type { Ssm } from './ssm.ts'

const MISSING = new Set(['InvalidDocument'])
/** Made by somebody else since. */
const EXISTS = new Set(['DocumentAlreadyExists'])
/** A version with this content is there: it only has to become the default. */
const SAME = new Set(['DuplicateDocumentContent'])

export interface CommandDocument {
  /** Of the default version. */
  version: string
  content: unknown
}

/** Command documents of Systems Manager, as `bake setup` sees and makes them. Errors: see ec2-errors.ts. */
export class AwsDocuments implements ResourceStore {
  readonly #ssm: Ssm

  constructor(ssm: Ssm) {
    this.#ssm = ssm
  }

  /** The default version, with its content parsed; undefined when there is no such document. */
  async get(name: string): Promise<CommandDocument | undefined> {
    const found = await this.#ssm.optional(MISSING, 'GetDocument', name, ({ sdk, client }) =>
      client.send(new sdk.GetDocumentCommand({ Name: name, DocumentFormat: 'JSON' })),
    )
    return found && { version: found.DocumentVersion ?? '', content: parsed(found.Content) }
  }

  async look({ name }: Resource): Promise<Found | undefined> {
    const found = await this.get(name)
    return found && { settings: { content: found.content } }
  }

  async create({ name, settings }: Resource): Promise<void> {
    const made = await this.#ssm.optional(EXISTS, 'CreateDocument', name, ({ sdk, client }) =>
      client.send(
        new sdk.CreateDocumentCommand({
          ...{ Name: name, Content: JSON.stringify(settings.content), DocumentType: 'Command', DocumentFormat: 'JSON' },
          TargetType: '/AWS::EC2::Instance',
        }),
      ),
    )
    if (made === undefined) await this.change({ kind: 'document', name, settings })
  }

  async change({ name, settings }: Resource): Promise<void> {
    const Content = JSON.stringify(settings.content)
    const updated = await this.#ssm.optional(SAME, 'UpdateDocument', name, ({ sdk, client }) =>
      client.send(new sdk.UpdateDocumentCommand({ Name: name, Content, DocumentVersion: '$LATEST', DocumentFormat: 'JSON' })),
    )
    const DocumentVersion = updated?.DocumentDescription?.DocumentVersion ?? (await this.#versionOf(name, settings.content))
    await this.#ssm.call('UpdateDocumentDefaultVersion', name, ({ sdk, client }) =>
      client.send(new sdk.UpdateDocumentDefaultVersionCommand({ Name: name, DocumentVersion })),
    )
  }

  /** SSM takes no content twice: the newest version that has it. */
  async #versionOf(name: string, content: unknown): Promise<string> {
    const read = (DocumentVersion: string) =>
      this.#ssm.call('GetDocument', name, ({ sdk, client }) =>
        client.send(new sdk.GetDocumentCommand({ Name: name, DocumentVersion, DocumentFormat: 'JSON' })),
      )
    const latest = Number((await read('$LATEST')).DocumentVersion)
    for (let version = latest; version > 0; version--)
      if (isDeepStrictEqual(parsed((await read(String(version))).Content), content)) return String(version)
    return String(latest)
  }
}

/** Somebody may have put anything there. */
function parsed(content = ''): unknown {
  try {
    return JSON.parse(content)
  } catch {
    return content
  }
}
