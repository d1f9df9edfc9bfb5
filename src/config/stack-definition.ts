import { z } from 'zod'
import { command, duration, name, scalar } from './fields.ts'

/** https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html */
const rolling = z.strictObject({
  min_healthy: z.number().int().min(0).max(100).optional().describe('Percent of the group that stays in service. Default: 100.'),
  max_healthy: z
    .number()
    .int()
    .min(100)
    .max(200)
    .optional()
    .describe('Percent of the group that there may be meanwhile. Default: 110.'),
  warmup: duration.optional().describe("Until a new instance counts. Default: the group's own."),
  bake_time: duration.optional().describe('How long it is watched after the last instance, to go back by itself.'),
  checkpoints: z
    .array(z.number().int().min(1).max(100))
    .min(1)
    .optional()
    .describe('Percentages at which it waits, ascending; the last is 100.'),
  checkpoint_delay: duration.optional().describe('How long it waits there. Default: 1h.'),
  alarms: z.array(z.string().min(1).max(255)).max(10).optional().describe('CloudWatch alarms that make it go back.'),
  skip_matching: z.boolean().optional().describe('Instances that are as they should be stay. Default: true.'),
})

export const stack = z.strictObject({
  targets: z
    .record(
      z.string().regex(/^(?:tag:.+|InstanceIds)$/, 'must be "tag:KEY" or InstanceIds'),
      z.union([scalar, z.array(scalar).min(1)]),
    )
    .refine((targets) => Object.keys(targets).length > 0, 'must name a tag or InstanceIds')
    .optional()
    .describe('Instances by tag, { "tag:stack": dev-alice }, or by id, { InstanceIds: [i-…] }.'),
  autoscaling_group: z.string().min(1).max(255).optional().describe('Name of the group.'),
  local: z.literal(true).optional().describe('Services run on the engine of this machine.'),
  rolling: rolling.optional().describe('How bake deploy replaces the instances of the group.'),
  swappable: z.boolean().optional().describe('`bake swap` may replace images here.'),
  hooks: z
    .strictObject({
      migrate: z
        .strictObject({ service: name, command })
        .optional()
        .describe('Runs once, on one new instance, between old and new: bake deploy --strategy full.'),
    })
    .optional(),
})

export const stackKinds = ['targets', 'autoscaling_group', 'local'] as const
