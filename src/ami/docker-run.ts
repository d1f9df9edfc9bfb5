import type { ServiceDefinition } from '../config.ts'
import type { Service } from './machine.ts'

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

/**
 * How a service runs (docker-run(1)), in the foreground of its unit. stdout is what docker itself attaches to: a container's output goes to its log driver,
 * so that the unit's journal has docker's own messages only.
 */
export function dockerRun(service: Service): DockerRun {
  const { name, reference, ports, env, envFile, envFrom, user, volumes, memoryBytes, cpus, log, command = [] } = service
  const image = `${reference.repository}@${reference.digest}`
  const { driver, options } = log ?? { driver: 'journald', options: {} }
  // BAKE_RELEASE and BAKE_SHA come with the instance: without a value docker takes its own, and sets none that it hasn't got.
  const variables = [
    'BAKE_RELEASE',
    'BAKE_SHA',
    `BAKE_IMAGE=${image}`,
    ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
  ]
  return {
    options: [
      ...['--rm', `--name=${unitName(service)}`, '--pull=never', '--attach=stdout'],
      `--log-driver=${driver}`,
      ...Object.entries(options).map(([name, value]) => `--log-opt=${name}=${value}`),
      ...variables.map((variable) => `--env=${variable}`),
      ...(envFile === undefined ? [] : [`--env-file=${envFile}`]),
      // Written before each start (templates/boot/env-from.py.hbs).
      ...(envFrom.length === 0 ? [] : [`--env-file=/run/bake/${name}.from`]),
      ...ports.map(
        ({ address, host, container, protocol }) =>
          `--publish=${address === undefined ? '' : `${address}:`}${host}:${container}${protocol === 'udp' ? '/udp' : ''}`,
      ),
      ...volumes.map((volume) => `--volume=${volume}`),
      ...(user === undefined ? [] : [`--user=${user}`]),
      ...(memoryBytes === undefined ? [] : [`--memory=${memoryBytes}`]),
      ...(cpus === undefined ? [] : [`--cpus=${cpus}`]),
    ],
    image,
    command,
  }
}
