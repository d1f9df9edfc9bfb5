import type { DeployWorld } from './deploy-world.ts'
import { type Deployment, isFull, isRolling } from './deployments.ts'
import { runFull } from './full.ts'
import { runRolling } from './rolling.ts'

/** Takes a deployment to its end by its own strategy. Throws what runRolling and runFull throw. */
export async function runDeployment(deployment: Deployment, world: DeployWorld): Promise<Deployment> {
  if (isFull(deployment)) return await runFull(deployment, world)
  return isRolling(deployment) ? await runRolling(deployment, world) : deployment
}
