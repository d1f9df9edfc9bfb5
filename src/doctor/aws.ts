import type { AwsSettings, Config } from '../config.ts'
import { ok, skipped, warning } from './finding.ts'
import type { Check, DoctorWorld, Finding } from './types.ts'

/** What a fleet shares: bake.yaml's `aws:`. Errors of the services carry their own next step. */

const queue: Check = {
  id: 'queue',
  run: (world) =>
    withAws(world, async (aws, { fleet, worker }) => {
      const { visible, inFlight, delayed, dead } = await world.queueDepth(aws, { ...fleet, ...worker })
      const waiting = `${aws.queue}: ${visible + delayed} waiting, ${inFlight} taken`
      if (dead === 0) return ok(waiting)
      return warning(
        `${waiting}, ${dead} dead letters`,
        'bake status    tells the last failures; dead letters are kept for 14 days',
      )
    }),
}

const ledger: Check = {
  id: 'ledger',
  run: (world) =>
    withAws(world, async (aws, { fleet }) => {
      await world.readLedger(aws, fleet.prefix)
      return ok(`s3://${aws.bucket}${fleet.prefix === undefined ? '' : `/${fleet.prefix}`}`)
    }),
}

async function withAws(world: DoctorWorld, check: (aws: AwsSettings, config: Config) => Promise<Finding>): Promise<Finding> {
  const config = await world.config().catch(() => undefined)
  if (config === undefined) return skipped('no valid bake.yaml')
  return config.aws === undefined ? skipped('everything runs on this machine') : check(config.aws, config)
}

export const awsChecks: Check[] = [queue, ledger]
