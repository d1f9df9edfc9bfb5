import type { Emit } from '../events.ts'
import type { AheadCommit } from '../io/host/protocol.ts'
import type { JobSender, Queue } from '../io/queue.ts'
import type { Reference } from '../io/registry.ts'
import { tags } from '../names.ts'
import { parseReference } from '../reference.ts'
import type { Project } from './project.ts'

/** Queue and registry of a project: those of this machine's host process, or those on AWS that bake.yaml names. */
export interface Services extends Disposable {
  /** Aborted, with the error as reason, when the host died and no other can be started. A worker never gives up. On AWS never. */
  readonly lost: AbortSignal
  queue(): Promise<Queue>
  /** The queue for whoever only puts jobs on it. */
  readonly sender: JobSender
  target(image: string): Reference
  cache(image: string, branch: string): string
}

/** On one machine a host is started when nobody has it running; its worker may fetch `ahead` meanwhile. */
export async function connectServices(
  project: Project,
  role: 'client' | 'worker',
  emit: Emit,
  signal?: AbortSignal,
  ahead?: AheadCommit,
): Promise<Services> {
  if (project.aws) return (await import('./services-aws.ts')).awsServices(project, project.aws)
  return (await import('./services-host.ts')).connectHostServices(project, role, emit, signal, ahead)
}

const CACHE_REPOSITORY = 'bake-cache'

/** Where images and their caches go: the configured registry, else the host's own under the project's name. */
export function targetsOf(project: Project, hostRegistry: string | undefined): Pick<Services, 'target' | 'cache'> {
  const base = parseReference(`${project.config.registry ?? `${hostRegistry}/${project.config.project}`}/x`)
  const prefix = base.path.slice(0, -'x'.length)
  return {
    target: (image) => ({ host: base.host, path: `${prefix}${image}` }),
    cache: (image, branch) => `${base.host}/${prefix}${CACHE_REPOSITORY}:${tags.cache(image, branch)}`,
  }
}
