import { z } from 'zod'
import { DIGEST_PATTERN, KEY_PATTERN } from '../names.ts'

/** What an instance's program says of one service (templates/boot/swap.sh.hbs). */
const serviceSchema = z.object({
  service: z.string(),
  /** `kept`: the new one was not well, or another one wasn't and all or nothing was asked for. `failed`: and neither is what ran before. */
  status: z.enum(['swapped', 'unchanged', 'kept', 'failed']),
  /** What runs now. */
  digest: z.string().regex(DIGEST_PATTERN).optional(),
  before: z.string().regex(DIGEST_PATTERN).optional(),
  seconds: z.number(),
  why: z.string().optional(),
})
export type ServiceReport = z.infer<typeof serviceSchema>
const inputsSchema = z.object({ inputs: z.string().regex(KEY_PATTERN) })

export interface InstanceReport {
  /** Of the machine image that it was started from. */
  inputs?: string
  services: ServiceReport[]
}

const MARK = 'bake-swap: '

/** Of what the program wrote; lines that aren't its own are passed over. */
export function readReport(stdout: string): InstanceReport {
  const report: InstanceReport = { services: [] }
  for (const line of stdout.split('\n')) {
    if (!line.startsWith(MARK)) continue
    const document = json(line.slice(MARK.length))
    const service = serviceSchema.safeParse(document)
    if (service.success) report.services.push(service.data)
    const inputs = inputsSchema.safeParse(document)
    if (inputs.success) report.inputs = inputs.data.inputs
  }
  return report
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
