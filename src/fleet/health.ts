import type { RunnableService } from '../docker-run.ts'
import type { Container, Containers, Network } from './containers.ts'

const PROBE_MS = 5_000
const COMMAND_MS = 10_000
/** Without any check a container counts that has run for so long. */
const STEADY_MS = 2_000

/** Whether a container's service is well: undefined, or why it isn't yet. The same checks as on a machine (templates/boot/probe.sh.hbs). */
export async function fault(
  { health, ports }: RunnableService,
  container: Container,
  world: { containers: Containers; network: Network; now(): number; signal: AbortSignal },
): Promise<string | undefined> {
  if (health === undefined || 'own' in health) return ownFault(container, world.now())
  if ('http' in health) {
    const status = await world.network.status(health.http, PROBE_MS)
    if (status === undefined) return 'nothing answers there'
    return status >= 200 && status < 400 ? undefined : `it answers ${status}`
  }
  if ('tcp' in health) {
    // At the container's own address, as on a machine; where that can't be reached (an engine in a virtual machine), at the port that is published.
    const published = ports.find(({ host, protocol }) => host === health.tcp && protocol === 'tcp')
    const own =
      container.address !== '' && (await world.network.accepts(container.address, published?.container ?? health.tcp, PROBE_MS))
    const well =
      own || (published !== undefined && (await world.network.accepts(published.address ?? '127.0.0.1', health.tcp, PROBE_MS)))
    return well ? undefined : 'nothing listens there'
  }
  const { code, said } = await world.containers.exec(container.name, health.command, COMMAND_MS, world.signal)
  return code === 0 ? undefined : `the command ends with ${code}: ${said}`
}

function ownFault({ health, startedAt }: Container, now: number): string | undefined {
  if (health !== undefined) return health === 'healthy' ? undefined : `its own health check says ${health}`
  return now - startedAt >= STEADY_MS ? undefined : 'it has only just started'
}
