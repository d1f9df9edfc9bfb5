import { BUILD_ID_PATTERN } from '../names.ts'
import type { MachinePlan } from './machine.ts'

/** EC2's limit for the name of an image. */
const MAX_NAME = 128
const BUILD_ID_LENGTH = 16
const INPUTS_DIGITS = 12

/**
 * An AMI's name: unique, because it ends with its run. Packer 1.6 tags an image some minutes after it began; until then the name alone tells whose it is.
 */
export function amiName({ project, inputs }: Pick<MachinePlan, 'project' | 'inputs'>, run: string): string {
  return `${prefixOf(project)}${inputs.slice(0, INPUTS_DIGITS)}-${run}`
}

/** What names of a project's images look like to DescribeImages. */
export const amiNamePattern = (project: string): string => `${prefixOf(project)}*`

/** The run whose image has this name; undefined when it isn't one of bake's for this project. */
export function runOfAmiName(name: string, project: string): string | undefined {
  const prefix = prefixOf(project)
  const [digits, run] = [name.slice(prefix.length, prefix.length + INPUTS_DIGITS), name.slice(-BUILD_ID_LENGTH)]
  const isOurs = name.startsWith(prefix) && name === `${prefix}${digits}-${run}` && /^[0-9a-f]{12}$/.test(digits)
  return isOurs && BUILD_ID_PATTERN.test(run) ? run : undefined
}

/** Projects may have longer names. */
const prefixOf = (project: string): string =>
  `bake-${project.slice(0, MAX_NAME - 'bake---'.length - INPUTS_DIGITS - BUILD_ID_LENGTH)}-`
