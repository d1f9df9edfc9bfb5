import { awsChecks } from './doctor/aws.ts'
import { diskChecks } from './doctor/disks.ts'
import { engineChecks } from './doctor/engine.ts'
import { machineChecks } from './doctor/machines.ts'
import { projectChecks } from './doctor/project.ts'
import { toolChecks } from './doctor/tools.ts'
import type { CheckResult, DoctorWorld } from './doctor/types.ts'
import { BakeError, EXIT, type ExitCode, messageOf } from './errors.ts'

export type { CheckResult, DoctorWorld } from './doctor/types.ts'

/** Every prerequisite, in the order in which they are printed. */
export const CHECKS = [...toolChecks, ...engineChecks, ...diskChecks, ...projectChecks, ...machineChecks, ...awsChecks]

/** Runs all checks at once. A check that throws has failed; nothing that it throws ends the others. */
export const examine = (world: DoctorWorld, signal: AbortSignal): Promise<CheckResult[]> =>
  Promise.all(
    CHECKS.map(async ({ id, run }): Promise<CheckResult> => {
      try {
        return { id, ...(await run(world, signal)) }
      } catch (error) {
        signal.throwIfAborted()
        const next = error instanceof BakeError ? error.next : undefined
        return { id, status: 'failed', detail: messageOf(error), ...(next === undefined ? {} : { fix: next }) }
      }
    }),
  )

/** 0 when nothing failed, 2 when only bake.yaml is invalid, else 4: something is missing or out of reach. Warnings change nothing. */
export function exitOf(results: CheckResult[]): ExitCode {
  const failed = results.filter(({ status }) => status === 'failed')
  if (failed.length === 0) return EXIT.ok
  return failed.every(({ id }) => id === 'config') ? EXIT.refused : EXIT.unavailable
}
