import type { EC2Client, Filter } from '@aws-sdk/client-ec2'
import { awsOptions } from './aws-client.ts'
import { ec2Error, ec2ErrorName } from './ec2-errors.ts'

type Sdk = typeof import('@aws-sdk/client-ec2')
interface Connection {
  sdk: Sdk
  client: EC2Client
}

/** Tags by key. */
export type Ec2Tags = Record<string, string>

/** RunInstances and CopyImage take some seconds by themselves. */
const REQUEST_TIMEOUT_MS = 60_000

export interface Ec2Request {
  /** The API's action, which is the IAM action too. */
  action: string
  /** The id or name it is about. */
  subject: string
  /** Other permissions it needs: `ec2:CreateTags`. */
  also?: string[]
}

/** EC2 in one region: what its adapters (ec2-*.ts) share. Loads the SDK with the first call. Errors: see ec2-errors.ts. */
export class Ec2 implements AsyncDisposable {
  readonly region: string
  #connection: Promise<Connection> | undefined

  constructor(region: string) {
    this.region = region
  }

  async call<T>(request: Ec2Request, send: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      this.#connection ??= connect(this.region)
      return await send(await this.#connection)
    } catch (error) {
      throw ec2Error(error, { ...request, region: this.region })
    }
  }

  /** As `call`; undefined when EC2 answers with one of `names`, such as InvalidAMIID.NotFound. */
  async optional<T>(names: ReadonlySet<string>, request: Ec2Request, send: (connection: Connection) => Promise<T>) {
    try {
      return await this.call(request, send)
    } catch (error) {
      if (names.has(ec2ErrorName(error))) return undefined
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    connection?.client.destroy()
  }
}

async function connect(region: string): Promise<Connection> {
  const [sdk, options] = await Promise.all([import('@aws-sdk/client-ec2'), awsOptions({ service: 'EC2', region })])
  const requestHandler = { ...options.requestHandler, requestTimeout: REQUEST_TIMEOUT_MS, socketTimeout: REQUEST_TIMEOUT_MS }
  return { sdk, client: new sdk.EC2Client({ ...options, requestHandler }) }
}

/** All pages of a Describe call, in order. */
export async function pages<T>(page: (token: string | undefined) => Promise<{ items: T[]; next: string | undefined }>) {
  const found: T[] = []
  let token: string | undefined
  do {
    const { items, next } = await page(token)
    found.push(...items)
    token = next || undefined
  } while (token !== undefined)
  return found
}

/** `*` as a value: whatever has the tag. */
export const tagFilters = (tags: Ec2Tags): Filter[] =>
  Object.entries(tags).map(([key, value]) =>
    value === '*' ? { Name: 'tag-key', Values: [key] } : { Name: `tag:${key}`, Values: [value] },
  )

export const tagsOf = (tags: { Key?: string | undefined; Value?: string | undefined }[] | undefined): Ec2Tags =>
  Object.fromEntries((tags ?? []).map(({ Key = '', Value = '' }) => [Key, Value]))

export const tagList = (tags: Ec2Tags): { Key: string; Value: string }[] =>
  Object.entries(tags).map(([Key, Value]) => ({ Key, Value }))

/** What a create call tags with: each kind of thing that it makes. Empty tags can't be sent. */
export const tagSpecifications = <const Kind extends string>(kinds: readonly Kind[], tags: Ec2Tags) =>
  kinds.map((ResourceType) => ({ ResourceType, Tags: tagList(tags) }))
