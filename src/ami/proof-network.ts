import { unavailable } from '../errors.ts'
import type { Ec2Network, ProofNetwork } from '../io/ec2-network.ts'

export type ClosedNetwork = ProofNetwork & { group: string }

/** The network for proofs, when it is one. Throws proof_network_missing or proof_network_open (exit 4). */
export async function closedNetwork(network: Pick<Ec2Network, 'region' | 'find'>): Promise<ClosedNetwork> {
  const { region } = network
  const found = await network.find()
  if (found === undefined || found.group === undefined || found.subnets.length === 0)
    throw unavailable('proof_network_missing', `there is no network for proofs in ${region}`, {
      next: 'bake setup    makes one: a VPC that nothing leads out of; it costs nothing',
      ids: { region },
    })
  const faults = [
    ...found.routes.map((destination) => `a route to ${destination}`),
    ...(found.dns ? ['names are resolved'] : []),
    ...(found.open ? ['its security group lets traffic through'] : []),
  ]
  if (faults.length > 0)
    throw unavailable('proof_network_open', `the network for proofs in ${region} (${found.vpc}) is open: ${faults.join(', ')}`, {
      next: 'bake setup    closes it; what is proven in an open network may need it',
      ids: { region, vpc: found.vpc },
    })
  return { ...found, group: found.group }
}
