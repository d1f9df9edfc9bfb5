import { join } from 'node:path'
import { isExecutable } from './child.ts'
import { toolEnvironment, toolMissing } from './tool.ts'

/** Throws tool_missing (exit 4) for the first program that isn't in PATH or where distributions keep those of the system. */
export function assertTools(commands: string[]): void {
  const [missing] = missingTools(commands)
  if (missing !== undefined) throw toolMissing(missing)
}

/** Those of `commands` that are in none of these places. */
export function missingTools(commands: string[]): string[] {
  const dirs = (toolEnvironment().PATH ?? '').split(':')
  return commands.filter((command) => !dirs.some((dir) => isExecutable(join(dir, command))))
}
