import type { Bake } from '../ami/bake.ts'
import { bakeEnd, jobEnd } from '../ami/notice.ts'
import { readBake } from '../ami/records.ts'
import { BakeError } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { Deployment } from '../fleet/deployments.ts'
import { deploymentEnd } from '../fleet/notice.ts'
import { announce, type End, wantsEnd } from '../jobs/announce.ts'
import { readBuild } from '../jobs/records.ts'
import { openHooks } from './hooks.ts'
import type { Project } from './project.ts'

/** `notify:` of what no worker tells: by whoever bakes or deploys, by the bake.yaml and the variables that are there. None of these throws. */

type Announcer = Pick<Project, 'config' | 'ledger'>
interface Request {
  emit: Emit
  signal: AbortSignal
}

/** Of a machine image that was made, or proven. One that is found may be somebody's who was killed before he told of it. */
export async function announceBake(bake: Bake, project: Announcer, request: Request): Promise<void> {
  if (!wanted(project, 'baked')) return
  const { machine, launch } = bake
  const record = await readBake(project.ledger, bake.build ?? machine.document.build).catch(() => undefined)
  await tell(record && bakeEnd(record, { machine, ...(launch && { launch }) }), project, request)
}

/** Of a bake that failed: what was refused before one began is nobody's news. */
export async function announceFailedBake(error: unknown, project: Announcer, request: Request): Promise<void> {
  const build = error instanceof BakeError ? error.ids.build : undefined
  if (build === undefined || !wanted(project, 'failed')) return
  const record = await readBake(project.ledger, build).catch(() => undefined)
  await tell(record && bakeEnd(record, undefined), project, request)
}

/** Of a job that failed without a run that did: it took too long, or cost too many workers. */
export async function announceFailedJob(build: string, project: Announcer, request: Request): Promise<void> {
  if (!wanted(project, 'failed')) return
  const record = await readBuild(project.ledger, build).catch(() => undefined)
  await tell(record && jobEnd(record), project, request)
}

/** Of a deployment that has ended. */
export const announceDeployment = async (deployment: Deployment, project: Announcer, request: Request): Promise<void> =>
  await tell(deploymentEnd(deployment), project, request)

const wanted = ({ config }: Announcer, event: End['event']): boolean =>
  config.notify.some((definition) => wantsEnd(definition, event))

async function tell(end: End | undefined, { config, ledger }: Announcer, { emit, signal }: Request): Promise<void> {
  if (end === undefined) return
  const onProblem = (text: string) => emit({ type: 'notice', level: 'warning', text })
  await announce(end, { ledger, hooks: openHooks(config.notify, process.env), signal, onProblem })
}
