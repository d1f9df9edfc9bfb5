import type { LaunchTemplate, LaunchTemplateVersion, ResponseLaunchTemplateData } from '@aws-sdk/client-ec2'
import { unavailable } from '../errors.ts'
import { type Ec2, type Ec2Tags, pages, tagList, tagsOf } from './ec2.ts'

/** A launch template, without its versions. */
export interface Template {
  id: string
  name: string
  defaultVersion: number
  latestVersion: number
}

/** A version as it is: never changed by anybody. */
export interface TemplateVersion {
  number: number
  description: string
  imageId?: string
  instanceType?: string
  /** What the instance is given, decoded. */
  userData?: Buffer
  /** Of what it launches, by kind: `instance`, `volume`, … */
  tags: Record<string, Ec2Tags>
  /** `required`: IMDSv2 only. */
  httpTokens?: string
  hopLimit?: number
  /** Everything but image, user-data and tags, as text that is equal when they are. */
  others: string
}

/** What a new version has that its source hasn't; all else stays as it is there. */
export interface TemplateChange {
  imageId: string
  userData?: Buffer
  tags: Record<string, Ec2Tags>
}

export interface NewTemplate extends TemplateChange {
  name: string
  instanceType: string
  hopLimit: number
  /** Of the template itself. */
  ownTags: Ec2Tags
  description: string
  token: string
}

/** The most that one page may have. */
const PAGE = 200
const NO_TEMPLATE = new Set([
  'InvalidLaunchTemplateName.NotFoundException',
  'InvalidLaunchTemplateId.NotFound',
  'InvalidLaunchTemplateId.NotFoundException',
])
const NEWEST_FIRST = (a: TemplateVersion, b: TemplateVersion) => b.number - a.number

/** The launch templates of one region. Errors: see ec2-errors.ts. */
export class Ec2Templates {
  readonly #ec2: Ec2

  constructor(ec2: Ec2) {
    this.#ec2 = ec2
  }

  /** Undefined when there is none of that name. */
  async get(name: string): Promise<Template | undefined> {
    const request = { action: 'DescribeLaunchTemplates', subject: name }
    return this.#ec2.optional(NO_TEMPLATE, request, async ({ sdk, client }) => {
      const { LaunchTemplates = [] } = await client.send(new sdk.DescribeLaunchTemplatesCommand({ LaunchTemplateNames: [name] }))
      return LaunchTemplates[0] && templateOf(LaunchTemplates[0])
    })
  }

  /** All templates of the region, whoever made them. */
  async all(): Promise<Template[]> {
    return this.#ec2.call({ action: 'DescribeLaunchTemplates', subject: 'all' }, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const answer = await client.send(new sdk.DescribeLaunchTemplatesCommand({ MaxResults: PAGE, NextToken }))
        return { items: (answer.LaunchTemplates ?? []).map(templateOf), next: answer.NextToken }
      }),
    )
  }

  /** Every version that is left, newest first. SSM parameters in the place of an image come as the image that they name now, unless told not to `resolve`. */
  async versions(name: string, { resolve = true } = {}): Promise<TemplateVersion[]> {
    const found = await this.#ec2.call({ action: 'DescribeLaunchTemplateVersions', subject: name }, ({ sdk, client }) =>
      pages(async (NextToken) => {
        const input = { LaunchTemplateName: name, ResolveAlias: resolve, MaxResults: PAGE, NextToken }
        const answer = await client.send(new sdk.DescribeLaunchTemplateVersionsCommand(input))
        return { items: answer.LaunchTemplateVersions ?? [], next: answer.NextToken }
      }),
    )
    return found.map(versionOf).sort(NEWEST_FIRST)
  }

  /** Its version is 1, which is the default too. */
  async create({ name, description, token, instanceType, hopLimit, ownTags, ...change }: NewTemplate): Promise<Template> {
    const request = { action: 'CreateLaunchTemplate', subject: name, also: ['ec2:CreateTags'] }
    const { LaunchTemplate } = await this.#ec2.call(request, ({ sdk, client }) =>
      client.send(
        new sdk.CreateLaunchTemplateCommand({
          LaunchTemplateName: name,
          VersionDescription: description,
          ClientToken: token,
          TagSpecifications: [{ ResourceType: 'launch-template', Tags: tagList(ownTags) }],
          LaunchTemplateData: {
            ...dataOf(change),
            InstanceType: instanceType as never,
            MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: hopLimit, InstanceMetadataTags: 'enabled' },
          },
        }),
      ),
    )
    return { id: LaunchTemplate!.LaunchTemplateId!, name, defaultVersion: 1, latestVersion: 1 }
  }

  /** A version as `source` but for `change`; its number. */
  async createVersion(name: string, source: number, change: TemplateChange & { description: string; token: string }) {
    const { LaunchTemplateVersion } = await this.#ec2.call(
      { action: 'CreateLaunchTemplateVersion', subject: name },
      ({ sdk, client }) =>
        client.send(
          new sdk.CreateLaunchTemplateVersionCommand({
            LaunchTemplateName: name,
            SourceVersion: String(source),
            VersionDescription: change.description,
            ClientToken: change.token,
            LaunchTemplateData: dataOf(change),
          }),
        ),
    )
    return LaunchTemplateVersion!.VersionNumber!
  }

  /** One that is gone already is no error. Throws ec2_refused for the default version. */
  async removeVersion(name: string, version: number): Promise<void> {
    const request = { action: 'DeleteLaunchTemplateVersions', subject: `${name} ${version}` }
    const answer = await this.#ec2.call(request, ({ sdk, client }) =>
      client.send(new sdk.DeleteLaunchTemplateVersionsCommand({ LaunchTemplateName: name, Versions: [String(version)] })),
    )
    const why = answer.UnsuccessfullyDeletedLaunchTemplateVersions?.[0]?.ResponseError
    if (why !== undefined && why.Code !== 'launchTemplateVersionDoesNotExist')
      throw unavailable('ec2_refused', `EC2 answered ${why.Code} to ${request.action} of ${request.subject}: ${why.Message}`)
  }

  async setDefault(name: string, version: number): Promise<void> {
    await this.#ec2.call({ action: 'ModifyLaunchTemplate', subject: name }, ({ sdk, client }) =>
      client.send(new sdk.ModifyLaunchTemplateCommand({ LaunchTemplateName: name, DefaultVersion: String(version) })),
    )
  }
}

const templateOf = ({
  LaunchTemplateId,
  LaunchTemplateName,
  DefaultVersionNumber,
  LatestVersionNumber,
}: LaunchTemplate): Template => ({
  id: LaunchTemplateId!,
  name: LaunchTemplateName!,
  defaultVersion: DefaultVersionNumber!,
  latestVersion: LatestVersionNumber!,
})

function dataOf({ imageId, userData, tags }: TemplateChange) {
  const TagSpecifications = Object.entries(tags).map(([kind, each]) => ({ ResourceType: kind as never, Tags: tagList(each) }))
  return {
    ImageId: imageId,
    ...(userData !== undefined && { UserData: userData.toString('base64') }),
    ...(TagSpecifications.length > 0 && { TagSpecifications }),
  }
}

function versionOf({ VersionNumber, VersionDescription, LaunchTemplateData = {} }: LaunchTemplateVersion): TemplateVersion {
  const { ImageId, UserData, TagSpecifications = [], ...others } = LaunchTemplateData
  const { InstanceType, MetadataOptions } = others
  return {
    number: VersionNumber!,
    description: VersionDescription ?? '',
    ...(ImageId && { imageId: ImageId }),
    ...(InstanceType && { instanceType: InstanceType }),
    ...(UserData && { userData: Buffer.from(UserData, 'base64') }),
    tags: Object.fromEntries(TagSpecifications.map(({ ResourceType = '', Tags }) => [ResourceType, tagsOf(Tags)])),
    ...(MetadataOptions?.HttpTokens && { httpTokens: MetadataOptions.HttpTokens }),
    ...(MetadataOptions?.HttpPutResponseHopLimit && { hopLimit: MetadataOptions.HttpPutResponseHopLimit }),
    others: canonical(others),
  }
}

/** Keys in order, and nothing that is undefined or empty. */
const canonical = (data: Omit<ResponseLaunchTemplateData, 'ImageId' | 'UserData' | 'TagSpecifications'>): string =>
  JSON.stringify(data, (_, value: unknown) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
