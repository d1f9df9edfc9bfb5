import { messageOf } from '../errors.ts'
import type { Emit } from '../events.ts'
import { type Container, type Containers, LABELS, STOP_SECONDS } from './containers.ts'

interface Left {
  project: string
  stack: string
  containers: Containers
  emit: Emit
}

/** Containers of services that bake.yaml has no more. Those that run are stopped: one may have the port that its successor wants. */
export async function stopLeft(known: string[] | undefined, { project, stack, containers }: Left): Promise<Container[]> {
  if (known === undefined) return []
  const all = await containers.list({ [LABELS.project]: project, [LABELS.stack]: stack })
  const left = all.filter(({ labels }) => !known.includes(labels[LABELS.service] ?? ''))
  for (const { name, running } of left) if (running) await containers.stop(name, STOP_SECONDS)
  return left
}

/** Something was not well: they run again. */
export async function startLeft(left: Container[], { containers, emit }: Left): Promise<void> {
  for (const { name, running } of left) {
    if (!running) continue
    await containers.start(name).catch((error: unknown) => {
      emit({ type: 'notice', level: 'warning', text: `${name}  can't be started again: ${messageOf(error)}` })
    })
  }
}

export async function removeLeft(left: Container[], { containers, emit }: Left): Promise<void> {
  for (const { name, labels } of left) {
    await containers.remove(name)
    emit({ type: 'notice', level: 'info', text: `${labels[LABELS.service]}  removed: bake.yaml has no such service any more` })
  }
}
