import { join } from 'node:path'
import { isExecutable } from './child.ts'
import { toolEnvironment, toolMissing } from './tool.ts'

/** Throws tool_missing (exit 4) for the first program that isn't in PATH or where distributions keep those of the system. */
export function assertTools(commands: string[]): void {
  const dirs = (toolEnvironment().PATH ?? '').split(':')
  const missing = commands.find((command) => !dirs.some((dir) => isExecutable(join(dir, command))))
  if (missing !== undefined) throw toolMissing(missing)
}
