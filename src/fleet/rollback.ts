import { refused } from '../errors.ts'
import type { Ledger } from '../io/ledger.ts'
import { keys } from '../names.ts'
import type { Target } from './deploy-plan.ts'
import type { DeployWorld } from './deploy-world.ts'
import { type Deployment, eachDeployment, isFull, take } from './deployments.ts'
import { canGoBack, cannotGoBack } from './full-state.ts'
import { settle } from './rolling.ts'
import { runDeployment } from './run-deployment.ts'

/** What `bake rollback` does without being told where to. */
export type Way =
  /** A deployment is under way: it is turned round. */
  | { kind: 'turn'; deployment: Deployment }
  /** A rollback is under way. */
  | { kind: 'follow'; deployment: Deployment }
  /** The newest deployment was taken back already. */
  | { kind: 'done'; deployment: Deployment }
  /** All has ended: what ran before is deployed. */
  | { kind: 'target'; target: Target }

/** Asked for again it never goes further back, nor forward again. Throws nothing_to_roll_back (exit 2). */
export async function wayBack(stack: string, world: DeployWorld): Promise<Way> {
  for await (const each of eachDeployment(world.ledger, stack)) {
    const deployment = await settle(each, world)
    const { kind } = deployment.document
    if (!deployment.ended) return { kind: kind === 'deploy' ? 'turn' : 'follow', deployment }
    if (!hadEffect(deployment)) continue
    if (deployment.ended.status === 'rolled-back' || (kind === 'rollback' && deployment.ended.status === 'deployed'))
      return { kind: 'done', deployment }
    return { kind: 'target', target: deployment.document.from }
  }
  throw refused('nothing_to_roll_back', `nothing was deployed to ${stack} by bake`, {
    next: `bake rollback --stack ${stack} --to RELEASE    deploys a release that was baked; bake releases    lists them`,
    ids: { stack },
  })
}

/**
 * Turns a deployment that is under way round, and follows it to its end, which is another one when Auto Scaling can't. Throws migrate_begun,
 * deploy_past_return (exit 2), ec2_* (exit 4).
 */
export async function turnRound(deployment: Deployment, world: DeployWorld): Promise<Deployment> {
  let at = deployment
  // The wish first: whoever goes on with it reads it, also when this process ends here.
  while (!at.ended && !at.has('rolling-back')) {
    if (isFull(at) && !canGoBack(at)) throw cannotGoBack(at)
    at = await take(world.ledger, at, { step: 'rolling-back' }, world.by)
  }
  return await runDeployment(at, world)
}

/** Refused at the start, or from a version to itself: the stack runs what it ran. */
const hadEffect = (deployment: Deployment): boolean => {
  const { document, ended, refresh } = deployment
  const { from, to } = document
  const begun = refresh !== undefined || deployment.has('doubling')
  return (
    (begun || ended?.status === 'rolled-back') &&
    (from.template.id !== to.template.id || from.template.version !== to.template.version)
  )
}

/**
 * Launch template versions that a stack needs: `<template's id> <number>`. Both sides of what is under way, and of the newest deployment that had an effect.
 * Throws ledger_damaged (exit 4).
 */
async function neededVersions(ledger: Ledger, stack: string): Promise<string[]> {
  const needed: string[] = []
  let nth = 0
  for await (const deployment of eachDeployment(ledger, stack)) {
    const standing = hadEffect(deployment) && deployment.ended?.status !== 'rolled-back'
    if (nth++ === 0 || standing)
      for (const { template } of [deployment.document.from, deployment.document.to])
        needed.push(`${template.id} ${template.version}`)
    if (standing) break
  }
  return needed
}

/** Launch template versions that stacks run or go back to: `<template's id> <number>`. Throws ledger_damaged (exit 4). */
export async function deliveredVersions(ledger: Ledger): Promise<Set<string>> {
  const stacks = new Set((await ledger.list(keys.allDeployments)).map((key) => key.split('/')[1]!))
  const needed = await Promise.all([...stacks].map((stack) => neededVersions(ledger, stack)))
  return new Set(needed.flat())
}
