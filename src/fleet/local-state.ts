import { BEFORE, type Containers, LABELS } from './containers.ts'

/** A service of a stack on this machine. */
export interface ServiceState {
  service: string
  /** As it was started: `<repository>@sha256:<hex>`. */
  image: string
  running: boolean
  /** Of the image's own HEALTHCHECK, if it has one. */
  health?: string
}

/** What runs of a stack on this machine, by service. Throws engine_refused (exit 3) or tool_missing (exit 4). */
export async function localServices(
  { project, stack }: { project: string; stack: string },
  containers: Pick<Containers, 'list'>,
): Promise<ServiceState[]> {
  const all = await containers.list({ [LABELS.project]: project, [LABELS.stack]: stack })
  return all
    .filter(({ name }) => !name.endsWith(BEFORE))
    .map(({ labels, image, running, health }) => ({
      ...{ service: labels[LABELS.service] ?? '', image, running },
      ...(health !== undefined && { health }),
    }))
    .sort((a, b) => (a.service < b.service ? -1 : 1))
}
