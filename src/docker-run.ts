import type { Health, ServiceDefinition } from './config.ts'

/** A service with the image that it runs. */
export interface RunnableService extends ServiceDefinition {
  reference: { repository: string; digest: string }
}

export interface DockerRun {
  /** Before the image, one word each; of a value that may begin with `-` none is taken for an option. */
  options: string[]
  /** `<repository>@<digest>` */
  image: string
  /** After the image. */
  command: string[]
}

/** A container's name, and its unit's without `.service`. */
export const unitName = (service: Pick<ServiceDefinition, 'name'>): string => `bake-${service.name}`

/** How long its health check may take; 60 s unless bake.yaml says otherwise. */
export const withinSeconds = (health: Health | undefined): number => health?.withinSeconds ?? 60

export const imageOf = ({ reference }: Pick<RunnableService, 'reference'>): string =>
  `${reference.repository}@${reference.digest}`

/**
 * How a service runs (docker-run(1)), in the foreground of its unit, whose BAKE_IMAGE says what it runs: `image`, unless a swap put another in its place.
 * stdout is what docker itself attaches to: a container's output goes to its log driver, so that the unit's journal has docker's own messages only.
 */
export function dockerRun(service: RunnableService): DockerRun {
  const { name, envFrom, log } = service
  const { driver, options } = log ?? { driver: 'journald', options: {} }
  return {
    options: [
      ...['--rm', `--name=${unitName(service)}`, '--pull=never', '--attach=stdout'],
      ...logOptions(driver, options),
      // BAKE_RELEASE and BAKE_SHA come with the instance: without a value docker takes its own, and sets none that it hasn't got.
      ...['BAKE_RELEASE', 'BAKE_SHA', 'BAKE_IMAGE', ...variablesOf(service)].map((variable) => `--env=${variable}`),
      ...(service.envFile === undefined ? [] : [`--env-file=${service.envFile}`]),
      // Written before each start (templates/boot/env-from.py.hbs).
      ...(envFrom.length === 0 ? [] : [`--env-file=/run/bake/${name}.from`]),
      ...containerOptions(service),
    ],
    image: imageOf(service),
    command: service.command ?? [],
  }
}

/**
 * How a service of a stack on this machine runs: in the background, and nothing restarts it before it was healthy once. `envFile`: the service's own, when
 * it is on this machine; else what stands in for it while a machine is proven does so here, and what bake.yaml bakes in counts more.
 */
export function localRun(
  service: RunnableService,
  container: { name: string; labels: Record<string, string>; envFile?: string },
): DockerRun {
  const { env, proof, log } = service
  const standsIn = container.envFile === undefined || service.envFrom.length > 0
  return {
    options: [
      ...['--detach', `--name=${container.name}`, '--pull=never'],
      ...Object.entries(container.labels).map(([label, value]) => `--label=${label}=${value}`),
      ...(log === undefined ? [] : logOptions(log.driver, log.options)),
      ...(container.envFile === undefined ? [] : [`--env-file=${container.envFile}`]),
      `--env=BAKE_IMAGE=${imageOf(service)}`,
      ...variablesOf({ env: standsIn ? { ...proof.env, ...env } : env }).map((variable) => `--env=${variable}`),
      ...containerOptions(service),
    ],
    image: imageOf(service),
    command: service.command ?? [],
  }
}

const logOptions = (driver: string, options: Record<string, string>): string[] => [
  `--log-driver=${driver}`,
  ...Object.entries(options).map(([name, value]) => `--log-opt=${name}=${value}`),
]

const variablesOf = ({ env }: Pick<RunnableService, 'env'>): string[] =>
  Object.entries(env).map(([name, value]) => `${name}=${value}`)

const containerOptions = ({ ports, volumes, user, memoryBytes, cpus }: RunnableService): string[] => [
  ...ports.map(
    ({ address, host, container, protocol }) =>
      `--publish=${address === undefined ? '' : `${address}:`}${host}:${container}${protocol === 'udp' ? '/udp' : ''}`,
  ),
  ...volumes.map((volume) => `--volume=${volume}`),
  ...(user === undefined ? [] : [`--user=${user}`]),
  ...(memoryBytes === undefined ? [] : [`--memory=${memoryBytes}`]),
  ...(cpus === undefined ? [] : [`--cpus=${cpus}`]),
]
