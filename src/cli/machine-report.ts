import type { AskedBake } from '../ami/ask.ts'
import type { Bake } from '../ami/bake.ts'
import type { UnrenderedPlan } from '../ami/machine.ts'
import type { Preview } from '../ami/preview.ts'
import { nameOf } from '../ami/records.ts'
import { proofTable } from './proof-table.ts'
import { hasColours, palette } from './style.ts'

interface MachineReport {
  /** stdout without --json. */
  lines: string[]
  /** The --json document, without its version. */
  document: object
  /** For stderr. */
  story?: string[]
}

/** Of a release's machine images, the first of which the document is about; the others are its `also`. */
export const reportBakes = (bakes: ((Bake & { seconds: number }) | AskedBake)[]): MachineReport =>
  merged(bakes.map((each) => ('machine' in each ? reportBake(each) : reportAsked(each))))

export const reportPreviews = (previews: Preview[]): MachineReport => merged(previews.map(reportPreview))

function merged([first, ...others]: MachineReport[]): MachineReport {
  if (first === undefined) throw new Error('a machine has at least one image')
  return {
    lines: [first, ...others].flatMap(({ lines }) => lines),
    story: [first, ...others].flatMap(({ story = [] }) => story),
    document: { ...first.document, ...(others.length > 0 && { also: others.map(({ document }) => document) }) },
  }
}

/** stdout of `bake ami`: the one image id. */
function reportBake({ status, plan, machine, build, launch, seconds }: Bake & { seconds: number }): MachineReport {
  const { document, baked } = machine
  const { proof, phases, baker, bakedAt } = document
  return {
    lines: [nameOf(baked)],
    story: proof && status !== 'found' ? proofTable(proof, palette(hasColours(process.stderr)), process.stderr.columns) : [],
    document: {
      ...subjectOf(plan),
      status,
      image: baked,
      ...(launch && { launch_template: launch }),
      baker,
      baked_at: bakedAt,
      proven: proof !== undefined,
      ...(proof && { proof }),
      phases,
      build: build ?? document.build,
      seconds,
    },
  }
}

/** Of a bake that isn't waited for: its id. */
const reportAsked = ({ build, plan }: AskedBake): MachineReport => ({
  lines: [build],
  document: { ...subjectOf(plan), status: 'queued', build },
})

/** What --dry-run prints. */
function reportPreview({ release, images, plan, action, reason, machine }: Preview): MachineReport {
  const verbs = { none: 'nothing to do', prove: 'prove', wait: 'wait', bake: 'bake', build: 'build images, then bake' }
  const missing = images.filter(({ reference }) => reference === undefined)
  return {
    lines: [
      ...missing.map(({ image }) => `${image}  build: nobody has published it`),
      `machine  ${verbs[action]}: ${reason}${plan ? `  (inputs ${plan.inputs.slice(0, 12)})` : ''}`,
    ],
    document: {
      ...(plan ? subjectOf(plan) : { release: release.name, commit: release.commit, images }),
      action,
      reason,
      ...(machine && { image: machine.baked }),
    },
  }
}

const subjectOf = ({ release, inputs, architecture, base, services, standIns }: UnrenderedPlan) => ({
  release: release.name,
  commit: release.commit,
  inputs,
  architecture,
  base,
  images: services.map(({ name, reference }) => ({ service: name, ...reference })),
  stand_ins: standIns,
})
