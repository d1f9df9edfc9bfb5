import { TAG } from '../aws-tags.ts'
import { qemuProgram } from '../qemu-names.ts'
import type { AmiBase, DiskBase, MachinePlan } from './machine.ts'
import { instanceTypeOf } from './machine-type.ts'
import { packer } from './quote.ts'

const GIB = 1024 ** 3
/** What a gp3 volume has without paying for more; Packer wants to be told (https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html). */
const GP3_IOPS = 3000
const GP3_THROUGHPUT_MIB = 125
/** A container's request for instance metadata is one hop further away. */
const CONTAINER_HOPS = 2

type Plan = Omit<MachinePlan, 'rendered'>

export const qemuData = ({ architecture, firmware }: DiskBase) => ({
  source: 'qemu',
  binary: qemuProgram(architecture),
  uefi: firmware === 'uefi',
  machineType: architecture === 'amd64' ? 'q35' : 'virt',
})

export const amazonData = (plan: Plan, base: AmiBase) => ({
  source: 'amazon-ebs',
  region: base.region,
  ami: base.id,
  instanceType: instanceTypeOf(plan),
  hops: plan.services.some(({ imds }) => imds) ? CONTAINER_HOPS : 1,
  volume: volumeOf(plan, base),
  tags: entries({
    ...quoted({ ...plan.definition.ami.tags, [TAG.project]: plan.project, [TAG.inputs]: plan.inputs }),
    [TAG.run]: 'var.run',
    [TAG.proven]: packer('false'),
  }),
  runTags: entries({ ...quoted({ Name: `bake ${plan.project}`, [TAG.project]: plan.project }), [TAG.run]: 'var.run' }),
})

const quoted = (tags: Record<string, string>) =>
  Object.fromEntries(Object.entries(tags).map(([name, value]) => [name, packer(value)]))

/** Of an object of HCL, as `packer fmt` aligns them. */
function entries(expressions: Record<string, string>) {
  const all = Object.entries(expressions).map(([name, expression]) => ({ name: packer(name), expression }))
  const width = Math.max(...all.map(({ name }) => name.length))
  return all.map(({ name, expression }) => ({ name: name.padEnd(width), expression }))
}

function volumeOf({ definition: { ami } }: Plan, { rootDevice }: AmiBase) {
  const { type = 'gp3', sizeBytes, iops, throughputMiBs } = ami.volume ?? {}
  const isGp3 = type === 'gp3'
  return {
    device: rootDevice,
    type,
    sizeGiB: sizeBytes === undefined ? null : Math.ceil(sizeBytes / GIB),
    iops: iops ?? (isGp3 ? GP3_IOPS : null),
    throughput: isGp3 ? (throughputMiBs ?? GP3_THROUGHPUT_MIB) : null,
    kmsKey: ami.kmsKey ?? null,
  }
}
