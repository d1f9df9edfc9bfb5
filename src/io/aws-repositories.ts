import type { ECRClient, ImageTagMutability, Repository } from '@aws-sdk/client-ecr'
import { awsOptions } from './aws-client.ts'
import type { Found, Resource, ResourceStore } from './aws-resource.ts'
import { ecrError } from './ecr-errors.ts'

type Sdk = typeof import('@aws-sdk/client-ecr')
interface Connection {
  sdk: Sdk
  client: ECRClient
}

interface Tags {
  mutability: 'MUTABLE' | 'IMMUTABLE_WITH_EXCLUSION'
  /** Filters with `*` for the tags that move all the same. */
  movable: string[]
}

/** On a repository whose ECR (an emulator's) knows no exclusion filters, so that the next look doesn't plan what can't be done. */
const NO_FILTERS = { Key: 'bake:tag-filters', Value: 'unsupported' }

/** Repositories of one ECR registry as `bake setup` sees and makes them. Errors: registry_denied, registry_throttled, registry_unreachable (exit 4). */
export class AwsRepositories implements ResourceStore {
  readonly #region: string
  readonly #registryId: string
  #connection: Promise<Connection> | undefined

  /** Loads the SDK with the first call. `account`: 12 digits. */
  constructor({ region, account }: { region: string; account: string }) {
    this.#region = region
    this.#registryId = account
  }

  async look({ name, settings }: Resource): Promise<Found | undefined> {
    const repository = await this.#repository(name)
    if (repository === undefined) return undefined
    const tags = tagsOf(repository)
    const found: Found = {
      settings: {
        tags,
        scanOnPush: repository.imageScanningConfiguration?.scanOnPush ?? false,
        lifecycle: await this.#lifecycle(name),
      },
    }
    const filtered = (settings.tags as Tags).movable.length > 0
    if (filtered && tags.mutability === 'MUTABLE' && (await this.#lacksFilters(repository)))
      found.unsupported = { tags: 'all of its tags can move, and bake itself moves branch- tags only' }
    return found
  }

  async create(wanted: Resource): Promise<void> {
    const tags = wanted.settings.tags as Tags
    await this.#create(wanted, mutability(tags)).catch(async (error: unknown) => {
      if (nameOf(error) === 'RepositoryAlreadyExistsException') return this.change(wanted, ['tags', 'scanOnPush'])
      if (tags.movable.length === 0 || nameOf(error) !== 'InvalidParameterException') throw error
      await this.#create(wanted, { imageTagMutability: 'MUTABLE' })
    })
    await this.#checkFilters(wanted.name, tags)
    await this.change(wanted, ['lifecycle'])
  }

  async change({ name, settings }: Resource, names: string[]): Promise<void> {
    const at = { registryId: this.#registryId, repositoryName: name }
    if (names.includes('tags')) await this.#setTags(name, settings.tags as Tags)
    if (names.includes('scanOnPush') && settings.scanOnPush !== undefined) {
      const imageScanningConfiguration = { scanOnPush: settings.scanOnPush as boolean }
      await this.#call(name, ({ sdk, client }) =>
        client.send(new sdk.PutImageScanningConfigurationCommand({ ...at, imageScanningConfiguration })),
      )
    }
    if (names.includes('lifecycle')) {
      const lifecyclePolicyText = JSON.stringify(settings.lifecycle)
      await this.#call(name, ({ sdk, client }) => client.send(new sdk.PutLifecyclePolicyCommand({ ...at, lifecyclePolicyText })))
    }
  }

  async #setTags(name: string, tags: Tags): Promise<void> {
    await this.#putTags(name, mutability(tags)).catch((error: unknown) => {
      if (tags.movable.length === 0 || nameOf(error) !== 'InvalidParameterException') throw error
    })
    await this.#checkFilters(name, tags)
  }

  /** Some refuse the filters, some take them and forget them: then branch tags couldn't move. */
  async #checkFilters(name: string, tags: Tags): Promise<void> {
    if (tags.movable.length === 0) return
    const repository = await this.#repository(name)
    if (repository === undefined || tagsOf(repository).movable.length > 0) return
    await this.#putTags(name, { imageTagMutability: 'MUTABLE' })
    const resourceArn = repository.repositoryArn
    await this.#call(name, ({ sdk, client }) => client.send(new sdk.TagResourceCommand({ resourceArn, tags: [NO_FILTERS] })))
  }

  async #putTags(repositoryName: string, input: { imageTagMutability: ImageTagMutability }): Promise<void> {
    const at = { registryId: this.#registryId, repositoryName }
    await this.#call(repositoryName, ({ sdk, client }) => client.send(new sdk.PutImageTagMutabilityCommand({ ...at, ...input })))
  }

  async #create({ name, settings }: Resource, input: object): Promise<void> {
    const imageScanningConfiguration = { scanOnPush: settings.scanOnPush === true }
    const at = { registryId: this.#registryId, repositoryName: name }
    await this.#call(name, ({ sdk, client }) =>
      client.send(new sdk.CreateRepositoryCommand({ ...at, imageScanningConfiguration, ...input })),
    )
  }

  async #repository(name: string): Promise<Repository | undefined> {
    const input = { registryId: this.#registryId, repositoryNames: [name] }
    return this.#call(name, async ({ sdk, client }) => {
      try {
        return (await client.send(new sdk.DescribeRepositoriesCommand(input))).repositories?.[0]
      } catch (error) {
        if (nameOf(error) === 'RepositoryNotFoundException') return undefined
        throw error
      }
    })
  }

  async #lifecycle(name: string): Promise<unknown> {
    const input = { registryId: this.#registryId, repositoryName: name }
    return this.#call(name, async ({ sdk, client }) => {
      try {
        const { lifecyclePolicyText = 'null' } = await client.send(new sdk.GetLifecyclePolicyCommand(input))
        return JSON.parse(lifecyclePolicyText)
      } catch (error) {
        if (nameOf(error) === 'LifecyclePolicyNotFoundException') return undefined
        throw error
      }
    })
  }

  async #lacksFilters({ repositoryName = '', repositoryArn: resourceArn }: Repository): Promise<boolean> {
    const { tags = [] } = await this.#call(repositoryName, ({ sdk, client }) =>
      client.send(new sdk.ListTagsForResourceCommand({ resourceArn })),
    )
    return tags.some(({ Key, Value }) => Key === NO_FILTERS.Key && Value === NO_FILTERS.Value)
  }

  async #call<T>(repository: string, send: (connection: Connection) => Promise<T>): Promise<T> {
    this.#connection ??= connect(this.#region)
    try {
      return await send(await this.#connection)
    } catch (error) {
      throw ecrError(error, { what: `repository ${repository}`, where: this.#region })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined)
    connection?.client.destroy()
  }
}

async function connect(region: string): Promise<Connection> {
  const [sdk, options] = await Promise.all([import('@aws-sdk/client-ecr'), awsOptions({ service: 'ECR', region })])
  return { sdk, client: new sdk.ECRClient(options) }
}

/** https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html: filters go with IMMUTABLE_WITH_EXCLUSION only. */
const mutability = ({ mutability: imageTagMutability, movable }: Tags) => ({
  imageTagMutability,
  ...(movable.length > 0 && {
    imageTagMutabilityExclusionFilters: movable.map((filter) => ({ filterType: 'WILDCARD' as const, filter })),
  }),
})

const tagsOf = ({ imageTagMutability, imageTagMutabilityExclusionFilters = [] }: Repository) => ({
  mutability: imageTagMutability ?? 'MUTABLE',
  movable: imageTagMutabilityExclusionFilters.map(({ filter }) => filter ?? ''),
})

const nameOf = (error: unknown): string => (error instanceof Error ? error.name : '')
