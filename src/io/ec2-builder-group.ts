import type { IpPermission } from '@aws-sdk/client-ec2'
import { waitFor } from '../wait.ts'
import { type Ec2, type Ec2Tags, tagSpecifications } from './ec2.ts'
import { ec2ErrorName } from './ec2-errors.ts'

export interface BuilderGroup {
  /** In the default VPC; no other of its name may be there. */
  name: string
  tags: Ec2Tags
  /** Who may reach SSH, such as 203.0.113.7/32. */
  cidrs: string[]
}

const SSH_PORT = 22
const GONE = new Set(['InvalidGroup.NotFound', 'InvalidGroupId.NotFound'])
/** The interface of an instance that has just ended holds its groups for some seconds. */
const RELEASED_WITHIN_MS = 90_000
const POLL_MS = 3_000

/** Security groups for instances that bake: Packer's own carry no tags, so nobody would find one that a killed run left. Errors: see ec2-errors.ts. */
export class Ec2BuilderGroups {
  readonly #ec2: Ec2

  constructor(ec2: Ec2) {
    this.#ec2 = ec2
  }

  /** Its id. */
  async make({ name, tags, cidrs }: BuilderGroup): Promise<string> {
    const { GroupId } = await this.#create({ name, tags }, false)
    const allowed: IpPermission = {
      IpProtocol: 'tcp',
      FromPort: SSH_PORT,
      ToPort: SSH_PORT,
      ...ranges(cidrs),
    }
    try {
      await this.#ec2.call({ action: 'AuthorizeSecurityGroupIngress', subject: name }, ({ sdk, client }) =>
        client.send(new sdk.AuthorizeSecurityGroupIngressCommand({ GroupId, IpPermissions: [allowed] })),
      )
    } catch (error) {
      await this.remove(GroupId!).catch(() => {})
      throw error
    }
    return GroupId!
  }

  /** Makes nothing: throws what EC2 has against it (ec2_denied, …). */
  async mayMake(group: Pick<BuilderGroup, 'name' | 'tags'>): Promise<void> {
    await this.#create(group, true).catch((error: unknown) => {
      if (ec2ErrorName(error) !== 'DryRunOperation') throw error
    })
  }

  #create({ name, tags }: Pick<BuilderGroup, 'name' | 'tags'>, DryRun: boolean) {
    return this.#ec2.call({ action: 'CreateSecurityGroup', subject: name, also: ['ec2:CreateTags'] }, ({ sdk, client }) =>
      client.send(
        new sdk.CreateSecurityGroupCommand({
          DryRun,
          GroupName: name,
          Description: 'An instance that bakes a machine image: SSH in',
          TagSpecifications: tagSpecifications(['security-group'], tags),
        }),
      ),
    )
  }

  /** Waits until nothing uses it any more. Throws timed_out (exit 5). */
  async remove(id: string): Promise<void> {
    const probe = async () => {
      try {
        await this.#ec2.optional(GONE, { action: 'DeleteSecurityGroup', subject: id }, ({ sdk, client }) =>
          client.send(new sdk.DeleteSecurityGroupCommand({ GroupId: id })),
        )
        return true
      } catch (error) {
        if (ec2ErrorName(error) === 'DependencyViolation') return undefined
        throw error
      }
    }
    await waitFor(probe, { what: `${id} to be used no more`, deadlineMs: RELEASED_WITHIN_MS, intervalMs: POLL_MS })
  }
}

const ranges = (cidrs: string[]): Pick<IpPermission, 'IpRanges' | 'Ipv6Ranges'> => {
  const [six = [], four = []] = [true, false].map((isSix) => cidrs.filter((cidr) => cidr.includes(':') === isSix))
  return {
    ...(four.length > 0 && { IpRanges: four.map((CidrIp) => ({ CidrIp })) }),
    ...(six.length > 0 && { Ipv6Ranges: six.map((CidrIpv6) => ({ CidrIpv6 })) }),
  }
}
