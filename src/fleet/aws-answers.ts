import { BakeError } from '../errors.ts'

/** Whether AWS refused with this name, which the SDK may end with Fault: the adapter's error has the SDK's as its cause. */
export const isRefused = (error: unknown, name: string): boolean =>
  error instanceof BakeError && error.cause instanceof Error && error.cause.name.startsWith(name)

/** It may be otherwise in a minute. */
export const isPassing = (error: unknown): error is BakeError =>
  error instanceof BakeError && ['ec2_unreachable', 'ec2_throttled'].includes(error.code)

/** What AWS has against a step, for good: it won't be otherwise in a minute. */
export const isRefusal = (error: unknown): error is BakeError =>
  error instanceof BakeError &&
  ['ec2_refused', 'ec2_denied', 'ec2_limit', 'ec2_capacity', 'ec2_not_subscribed'].includes(error.code)

const COMMAND_ENDS = new Set(['Success', 'Cancelled', 'TimedOut', 'Failed'])
/** Of a command's status on an instance: https://docs.aws.amazon.com/systems-manager/latest/userguide/monitor-commands.html */
export const isCommandEnd = (status: string): boolean => COMMAND_ENDS.has(status)
