import type { Found, Resource, ResourceStore } from './aws-resource.ts'
import { Ec2 } from './ec2.ts'
import { Ec2Network } from './ec2-network.ts'

/** The network for proofs as `bake setup` sees and makes it: a VPC of its own, whose parts are its settings. Errors: ec2_* (exit 4). */
export class AwsProofNetwork implements ResourceStore {
  readonly #ec2: Ec2
  readonly #network: Ec2Network

  /** Loads the SDK with the first call. */
  constructor(region: string) {
    this.#ec2 = new Ec2(region)
    this.#network = new Ec2Network(this.#ec2)
  }

  async look({ settings }: Resource): Promise<Found | undefined> {
    const found = await this.#network.find()
    if (found === undefined) return undefined
    const zones = new Set(found.subnets.map(({ zone }) => zone)).size
    const wanted = settings.zones as number
    const enough = zones >= wanted || zones === (await this.#network.zones()).length
    return {
      settings: {
        zones: enough ? wanted : zones,
        routes: found.routes,
        dns: found.dns,
        traffic: found.group === undefined ? 'no security group' : found.open ? 'some' : 'none',
      },
    }
  }

  async create(wanted: Resource): Promise<void> {
    await this.#network.makeVpc()
    await this.change(wanted, Object.keys(wanted.settings))
  }

  async change({ settings }: Resource, names: string[]): Promise<void> {
    const vpc = await this.#network.makeVpc()
    if (names.includes('dns')) await this.#network.turnDnsOff(vpc)
    if (names.includes('routes')) await this.#network.removeRoutes(vpc)
    if (names.includes('traffic')) await this.#network.closeGroup(vpc)
    if (names.includes('zones')) await this.#network.makeSubnets(vpc, settings.zones as number)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#ec2[Symbol.asyncDispose]()
  }
}
