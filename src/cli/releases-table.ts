import type { ListedMachine, ListedRelease } from '../ami/list.ts'
import { nameOf } from '../ami/records.ts'
import type { RunsOn } from '../fleet/where.ts'
import { age, duration, shortCommit, size } from './format.ts'
import { proofTable } from './proof-table.ts'
import type { Palette } from './style.ts'
import { table } from './table.ts'

/** Newest first, a line each. */
export const releasesTable = (releases: ListedRelease[], paint: Palette): string =>
  table(
    releases,
    [
      { title: 'RELEASE', value: ({ release }) => release.name, shrink: true },
      { title: 'COMMIT', value: ({ release }) => shortCommit(release.commit) },
      { title: 'IMAGES', value: ({ release }) => String(release.images.length), right: true },
      {
        title: 'MACHINE',
        value: ({ machines }) => machineText(machines[0]),
        shrink: true,
        paint: (text, row) => colour(text, row, paint),
      },
      { title: 'PROVEN', value: ({ machines }) => provenText(machines[0]) },
      { title: 'BASE', value: ({ machines }) => baseText(machines[0]), shrink: true },
      { title: 'CREATED', value: ({ release }) => age(release.createdAt) },
    ],
    { columns: process.stdout.columns, paintTitle: paint.dim },
  ).join('\n')

function machineText(machine: ListedMachine | undefined): string {
  if (!machine) return 'not baked'
  if (!machine.there) return 'gone'
  const { image } = machine.document
  return image.kind === 'ami' ? image.id : image.file
}

const colour = (text: string, { machines: [machine] }: ListedRelease, paint: Palette): string =>
  machine?.there ? text : paint.yellow(text)

const provenText = (machine: ListedMachine | undefined): string =>
  machine === undefined ? '' : machine.document.proof ? age(machine.document.proof.at) : 'no'

function baseText(machine: ListedMachine | undefined): string {
  if (!machine) return ''
  const { base } = machine.document
  return base.kind === 'ami' ? `${base.name}, ${age(base.createdAt)}` : (base.path.split('/').at(-1) ?? '')
}

/** One release, a fact per line; then each of its machine images with its proof. */
export function releaseDetails({ release, machines, on }: ListedRelease & { on: RunsOn[] }, paint: Palette): string {
  const facts = lines(
    [
      ['release', release.name],
      ['commit', release.commit],
      ['created', when(release.createdAt)],
      ...[...release.images, ...release.standIns].map(({ image, repository, digest }, n): [string, string] => [
        n < release.images.length ? 'image' : 'stand-in',
        `${image}  ${repository}@${digest}`,
      ]),
      ...on.map((one): [string, string] => ['runs on', runsOnText(one)]),
      ...(machines.length === 0 ? [['machine', `not baked: bake ami --release ${release.name}`] as [string, string]] : []),
    ],
    paint,
  )
  return [...facts, ...machines.flatMap((machine) => ['', ...machineDetails(machine, paint)])].join('\n')
}

function runsOnText({ stack, how, since, by }: RunsOn): string {
  const said = { deployed: 'since', maybe: 'perhaps: a deployment is under way, or stopped half-way,', swapped: 'swapped' }[how]
  return `${stack}  ${said} ${when(since)}, by ${by}`
}

function machineDetails({ document, baked, there, launch, inputs }: ListedMachine, paint: Palette): string[] {
  const { base, proof, phases } = document
  const seconds = phases.reduce((sum, phase) => sum + phase.seconds, 0)
  const facts = lines(
    [
      ['machine', `${nameOf(baked)}${baked.kind === 'ami' ? ` (${baked.region})` : `, ${size(baked.sizeBytes)}`}`],
      ...(baked.kind === 'ami' ? (baked.copies ?? []) : []).map(({ id, region }): [string, string] => ['', `${id} (${region})`]),
      ...(there ? [] : [['', paint.yellow('it is gone: bake ami bakes it again')] as [string, string]]),
      ['inputs', inputs],
      [
        'base',
        base.kind === 'ami'
          ? `${base.id} (${base.name}), made ${when(base.createdAt)}`
          : `${base.path} (${base.sha256.slice(0, 12)})`,
      ],
      ['for', document.architecture],
      ['baked', `${when(document.bakedAt)} in ${duration(seconds)} by build ${document.build}`],
      ...(launch ? [['launch', `${launch.name}, version ${launch.version}`] as [string, string]] : []),
      ['proven', proof ? when(proof.at) : paint.yellow('no')],
    ],
    paint,
  )
  const indent = (line: string) => `  ${line}`
  return [...facts, ...(proof ? proofTable(proof, paint, columnsLeft()).map(indent) : [])]
}

const columnsLeft = (): number | undefined => (process.stdout.columns ? process.stdout.columns - 2 : undefined)

const when = (at: number): string => `${new Date(at).toISOString()} (${age(at)})`

const lines = (facts: [string, string][], paint: Palette): string[] =>
  facts.map(([name, value]) => `${paint.dim(name.padEnd(8))} ${value}`)

export const runsOnOf = ({ stack, how, since, by }: RunsOn) => ({ stack, how, since, by })

/** A release as --json has it. */
export const releaseOf = ({ release, machines }: ListedRelease) => ({
  release: release.name,
  commit: release.commit,
  created_at: release.createdAt,
  images: release.images,
  stand_ins: release.standIns,
  machines: machines.map(({ document, baked, there, launch, inputs }) => ({
    inputs,
    image: baked,
    there,
    architecture: document.architecture,
    base: document.base,
    services: document.services,
    baker: document.baker,
    build: document.build,
    baked_at: document.bakedAt,
    proven: document.proof !== undefined,
    ...(document.proof && { proof: document.proof }),
    ...(launch && { launch_template: launch }),
    phases: document.phases,
  })),
})
