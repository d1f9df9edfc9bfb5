import type { IpPermission, RouteTable } from '@aws-sdk/client-ec2'
import { type Ec2, tagSpecifications } from './ec2.ts'

/** A network in which nothing can be reached, as it is. */
export interface ProofNetwork {
  vpc: string
  /** One in a zone. */
  subnets: { id: string; zone: string }[]
  /** Undefined: it has none yet. */
  group?: string
  /** What leads out of it, as destinations: none should. */
  routes: string[]
  /** Whether names are resolved. */
  dns: boolean
  /** Whether the security group lets anything in or out. */
  open: boolean
}

/** The tag by which the network is found; there is one in a region, for all projects. */
const TAG = { 'bake:network': 'proof' }
const GROUP_NAME = 'bake-proof'
/** Nothing is routed to it, so it may be anybody's else where. */
const VPC_CIDR = '192.168.213.0/24'
/** The smallest that there is: eleven proofs at a time in each. */
const subnetCidr = (index: number): string => `192.168.213.${16 * index}/28`
const MAX_SUBNETS = 16

/** The network for proofs of one region. Errors: see ec2-errors.ts. */
export class Ec2Network {
  readonly #ec2: Ec2

  constructor(ec2: Ec2) {
    this.#ec2 = ec2
  }

  get region(): string {
    return this.#ec2.region
  }

  /** Undefined when nobody made one yet. */
  async find(): Promise<ProofNetwork | undefined> {
    const vpc = await this.#vpc()
    if (vpc === undefined) return undefined
    const [subnets, tables, dns, group] = await Promise.all([
      this.#subnets(vpc),
      this.#tables(vpc),
      this.#dns(vpc),
      this.#group(vpc),
    ])
    return {
      vpc,
      subnets: subnets.map(({ id, zone }) => ({ id, zone })),
      ...(group && { group: group.id }),
      routes: tables.flatMap(routesOf).map(({ destination }) => destination),
      dns,
      open: group !== undefined && (group.in.length > 0 || group.out.length > 0),
    }
  }

  /** Zones of the region that this account may use. */
  async zones(): Promise<string[]> {
    const { AvailabilityZones = [] } = await this.#ec2.call(at('DescribeAvailabilityZones', this.region), ({ sdk, client }) =>
      client.send(new sdk.DescribeAvailabilityZonesCommand({ Filters: [filter('zone-type', 'availability-zone')] })),
    )
    return AvailabilityZones.filter(({ State }) => State === 'available').map(({ ZoneName }) => ZoneName!)
  }

  /** Its id, of the one that is there or a new one. */
  async makeVpc(): Promise<string> {
    const found = await this.#vpc()
    if (found !== undefined) return found
    const TagSpecifications = tagSpecifications(['vpc'], { Name: GROUP_NAME, ...TAG })
    const { Vpc } = await this.#ec2.call({ ...at('CreateVpc', VPC_CIDR), also: ['ec2:CreateTags'] }, ({ sdk, client }) =>
      client.send(new sdk.CreateVpcCommand({ CidrBlock: VPC_CIDR, TagSpecifications })),
    )
    return Vpc!.VpcId!
  }

  async turnDnsOff(vpc: string): Promise<void> {
    await this.#ec2.call(at('ModifyVpcAttribute', vpc), ({ sdk, client }) =>
      client.send(new sdk.ModifyVpcAttributeCommand({ VpcId: vpc, EnableDnsSupport: { Value: false } })),
    )
  }

  /** Until there are subnets in `count` zones, or in all. */
  async makeSubnets(vpc: string, count: number): Promise<void> {
    const there = await this.#subnets(vpc)
    const used = new Set(there.map(({ cidr }) => cidr))
    const free = Array.from({ length: MAX_SUBNETS }, (_, index) => subnetCidr(index)).filter((cidr) => !used.has(cidr))
    const without = (await this.zones()).filter((zone) => there.every((subnet) => subnet.zone !== zone))
    for (const AvailabilityZone of without.slice(0, Math.max(0, count - there.length))) {
      const TagSpecifications = tagSpecifications(['subnet'], { Name: `${GROUP_NAME}-${AvailabilityZone}`, ...TAG })
      const CidrBlock = free.shift()!
      await this.#ec2.call({ ...at('CreateSubnet', AvailabilityZone), also: ['ec2:CreateTags'] }, ({ sdk, client }) =>
        client.send(new sdk.CreateSubnetCommand({ VpcId: vpc, CidrBlock, AvailabilityZone, TagSpecifications })),
      )
    }
  }

  /** Takes away every route but the network's own. */
  async removeRoutes(vpc: string): Promise<void> {
    for (const table of await this.#tables(vpc))
      for (const { input } of routesOf(table))
        await this.#ec2.call(at('DeleteRoute', table.RouteTableId!), ({ sdk, client }) =>
          client.send(new sdk.DeleteRouteCommand({ RouteTableId: table.RouteTableId, ...input })),
        )
  }

  /** A security group that lets nothing in or out. */
  async closeGroup(vpc: string): Promise<void> {
    const { id, in: ingress } = (await this.#group(vpc)) ?? { id: await this.#makeGroup(vpc), in: [] }
    if (ingress.length > 0)
      await this.#ec2.call(at('RevokeSecurityGroupIngress', id), ({ sdk, client }) =>
        client.send(new sdk.RevokeSecurityGroupIngressCommand({ GroupId: id, IpPermissions: ingress })),
      )
    // A new group lets everything out.
    const egress = (await this.#group(vpc))?.out ?? []
    if (egress.length > 0)
      await this.#ec2.call(at('RevokeSecurityGroupEgress', id), ({ sdk, client }) =>
        client.send(new sdk.RevokeSecurityGroupEgressCommand({ GroupId: id, IpPermissions: egress })),
      )
  }

  async #makeGroup(vpc: string): Promise<string> {
    const TagSpecifications = tagSpecifications(['security-group'], TAG)
    const input = { VpcId: vpc, GroupName: GROUP_NAME, Description: 'Instances that prove an image: nothing in, nothing out' }
    const { GroupId } = await this.#ec2.call({ ...at('CreateSecurityGroup', vpc), also: ['ec2:CreateTags'] }, ({ sdk, client }) =>
      client.send(new sdk.CreateSecurityGroupCommand({ ...input, TagSpecifications })),
    )
    return GroupId!
  }

  /** Of several (two setups at once), the same for everybody. */
  async #vpc(): Promise<string | undefined> {
    const Filters = Object.entries(TAG).map(([key, value]) => filter(`tag:${key}`, value))
    const { Vpcs = [] } = await this.#ec2.call(at('DescribeVpcs', this.region), ({ sdk, client }) =>
      client.send(new sdk.DescribeVpcsCommand({ Filters })),
    )
    return Vpcs.map(({ VpcId }) => VpcId!).sort()[0]
  }

  async #subnets(vpc: string) {
    const { Subnets = [] } = await this.#ec2.call(at('DescribeSubnets', vpc), ({ sdk, client }) =>
      client.send(new sdk.DescribeSubnetsCommand({ Filters: [filter('vpc-id', vpc)] })),
    )
    return Subnets.map(({ SubnetId, AvailabilityZone, CidrBlock }) => ({
      id: SubnetId!,
      zone: AvailabilityZone!,
      cidr: CidrBlock!,
    }))
  }

  async #tables(vpc: string): Promise<RouteTable[]> {
    const { RouteTables = [] } = await this.#ec2.call(at('DescribeRouteTables', vpc), ({ sdk, client }) =>
      client.send(new sdk.DescribeRouteTablesCommand({ Filters: [filter('vpc-id', vpc)] })),
    )
    return RouteTables
  }

  async #dns(vpc: string): Promise<boolean> {
    const { EnableDnsSupport } = await this.#ec2.call(at('DescribeVpcAttribute', vpc), ({ sdk, client }) =>
      client.send(new sdk.DescribeVpcAttributeCommand({ VpcId: vpc, Attribute: 'enableDnsSupport' })),
    )
    return EnableDnsSupport?.Value === true
  }

  async #group(vpc: string): Promise<{ id: string; in: IpPermission[]; out: IpPermission[] } | undefined> {
    const Filters = [filter('vpc-id', vpc), filter('group-name', GROUP_NAME)]
    const { SecurityGroups = [] } = await this.#ec2.call(at('DescribeSecurityGroups', vpc), ({ sdk, client }) =>
      client.send(new sdk.DescribeSecurityGroupsCommand({ Filters })),
    )
    const group = SecurityGroups[0]
    return group && { id: group.GroupId!, in: group.IpPermissions ?? [], out: group.IpPermissionsEgress ?? [] }
  }
}

const at = (action: string, subject: string) => ({ action, subject })
const filter = (Name: string, value: string) => ({ Name, Values: [value] })

/** Of a table, all but those inside of the network. */
const routesOf = ({ Routes = [] }: RouteTable) =>
  Routes.filter(({ GatewayId }) => GatewayId !== 'local').map((route) => {
    const { DestinationCidrBlock, DestinationIpv6CidrBlock, DestinationPrefixListId } = route
    const input = DestinationCidrBlock
      ? { DestinationCidrBlock }
      : DestinationIpv6CidrBlock
        ? { DestinationIpv6CidrBlock }
        : { DestinationPrefixListId }
    return { destination: Object.values(input)[0] ?? 'somewhere', input }
  })
