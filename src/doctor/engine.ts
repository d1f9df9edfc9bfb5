import { failedWith, newerThan, ok, skipped, warning } from './finding.ts'
import type { Check, DoctorWorld } from './types.ts'

/** The Docker engine and its settings. Checks of settings are skipped when it doesn't answer: one failure is enough. */

const engine: Check = {
  id: 'engine',
  async run(world) {
    const found = await Promise.all([world.engineHost(), world.engine.info()]).catch(async (error: unknown) => {
      if ((await world.config().catch(() => undefined))?.aws === undefined) throw error
    })
    if (found === undefined) return skipped('none answers here; with aws: only workers need one')
    const [host, { version, os, architecture }] = found
    const detail = `${version}, ${os}/${architecture}, ${host}`
    if (os !== 'linux') return failedWith(`${detail}: it runs ${os} containers`, 'switch it to Linux containers')
    // 20.10 is the first whose BuildKit serves buildx 0.13's requests; 23 the first that builds with BuildKit by default.
    return newerThan(version, [20, 10])
      ? ok(detail)
      : failedWith(`${detail} is too old: 20.10 or newer is needed`, 'upgrade it: https://docs.docker.com/engine/install/')
  },
}

const imageStore: Check = {
  id: 'image_store',
  run: (world) =>
    whenUp(world, async () => {
      const { containerdStore, version } = await world.engine.info()
      if (containerdStore) return ok('containerd')
      const lost =
        "no containerd image store: the registry's shared cache is off (inline cache only), and an image has one platform"
      if (!newerThan(version, [24])) return warning(lost, `upgrade the engine to 24 or newer, then switch it on: ${SWITCH_ON}`)
      return warning(lost, SWITCH_ON)
    }),
}

const SWITCH_ON =
  'put "features": {"containerd-snapshotter": true} into /etc/docker/daemon.json and restart docker (bin/setup does); images that are there are hidden until it is switched back'

const LOG_LIMITS = ['BUILDKIT_STEP_LOG_MAX_SIZE', 'BUILDKIT_STEP_LOG_MAX_SPEED']

const stepLogs: Check = {
  id: 'step_logs',
  run: (world) =>
    whenUp(world, async () => {
      const fix = `set ${LOG_LIMITS.map((name) => `${name}=-1`).join(' and ')} in dockerd's environment and restart it (bin/setup does; with systemd: systemctl edit docker, [Service], Environment=…)`
      const environment = await world.engineEnvironment()
      if (environment === undefined)
        return warning(
          "unknown: dockerd's environment can't be read here",
          `as root where it runs: tr '\\0' '\\n' </proc/$(pidof dockerd)/environ | grep STEP_LOG; then ${fix}`,
        )
      const limited = LOG_LIMITS.filter((name) => environment[name] !== '-1')
      return limited.length === 0
        ? ok('unlimited')
        : warning("limited: a step's log is clipped at 200 KiB/s or 2 MiB, and bake logs marks it", fix)
    }),
}

const registryProgram: Check = {
  id: 'registry_program',
  async run(world) {
    const config = await world.config().catch(() => undefined)
    if (config?.registry !== undefined) return skipped(`images go to ${config.registry}`)
    const binary = world.registryImage === undefined ? (world.which('docker-registry') ?? world.which('registry')) : undefined
    if (binary !== undefined) return ok(binary)
    const image = world.registryImage ?? 'registry:2'
    const fix = `install one (Debian and Ubuntu: apt-get install docker-registry), or docker pull ${image}, or set registry: in bake.yaml`
    if (!(await isUp(world))) return failedWith('there is no registry program, and no engine to run its container', fix)
    return (await world.engine.image(image)) === undefined
      ? warning(`no registry program; the container of ${image} is pulled when it is needed first`, fix)
      : ok(`container of ${image}`)
  },
}

const isUp = (world: DoctorWorld): Promise<boolean> =>
  world.engine.ping().then(
    () => true,
    () => false,
  )

const whenUp = async (world: DoctorWorld, check: () => ReturnType<Check['run']>) =>
  (await isUp(world)) ? check() : skipped("the engine doesn't answer")

export const engineChecks: Check[] = [engine, imageStore, stepLogs, registryProgram]
