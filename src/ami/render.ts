import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { DISK_MANIFEST, diskManifest, formatDiskManifest } from './disk-manifest.ts'
import type { MachinePlan, Rendered, RenderedFile } from './machine.ts'
import { amazonData, qemuData } from './packer-data.ts'
import { proofData } from './proof-data.ts'
import { checkServices, serviceData, volumeData } from './service-data.ts'
import { openTemplates, type Templates } from './templates.ts'

const STEPS = ['prepare', 'images', 'install', 'setup', 'rehearse', 'clean', 'scan']
const OWN_UNITS = ['bake-net.service', 'bake-instance.service', 'bake-proof.service', 'bake-swap.service']
/** Of systemd-networkd, NetworkManager and Debian's ifupdown. */
const WAIT_ONLINE = ['systemd-networkd-wait-online', 'NetworkManager-wait-online', 'ifupdown-wait-online']
const LIB = '/usr/local/lib/bake'
const UNITS = '/etc/systemd/system'
/** Beyond what services may take: docker's restart, and stand-ins. */
const REHEARSE_SECONDS = 900
const UNAME = { amd64: 'x86_64', arm64: 'aarch64' } as const

type Plan = Omit<MachinePlan, 'rendered'>

/**
 * All that a plan becomes: pure, the same for the same plan. `templates`: the user's own, by their path from `machine.templates`. Throws template_unknown,
 * template_invalid, service_name_reserved, bad_service_text or bad_health_url (exit 2).
 */
export async function renderMachine(plan: Plan, own: Map<string, string>): Promise<Rendered> {
  checkServices(plan.services)
  const templates = await openTemplates(own, plan.definition.templates ?? 'machine.templates')
  const files = diskFiles(plan, templates)
  const data = stepData(plan, files)
  const packer = (plugins: boolean) => packerTemplate(plan, plugins, templates)
  return {
    files,
    steps: STEPS.map((name) => ({ path: `steps/${name}.sh`, text: templates.render(`provision/${name}.sh`, data), mode: 0o755 })),
    proof: templates.render('proof/proof.sh', proofData(plan)),
    packer: { builtIn: packer(false), plugins: packer(true) },
  }
}

function diskFiles(plan: Plan, { render }: Templates): RenderedFile[] {
  const services = plan.services.map((service) => serviceData(service, plan.services))
  const text = (path: string, template: string, data: object = {}) => ({ path, text: render(template, data), mode: 0o644 })
  const script = (path: string, template: string, data: object = {}) => ({ path, text: render(template, data), mode: 0o755 })
  return [
    { path: DISK_MANIFEST, text: formatDiskManifest(diskManifest(plan)), mode: 0o644 },
    ...OWN_UNITS.map((unit) => text(`${UNITS}/${unit}`, `boot/${unit}`)),
    ...services.map((service) => text(`${UNITS}/${service.unit}`, 'boot/service.service', service)),
    ...WAIT_ONLINE.map((unit) => text(`${UNITS}/${unit}.service.d/bake.conf`, 'boot/wait-online.conf')),
    ...['net', 'instance', 'swap'].map((name) => script(`${LIB}/${name}`, `boot/${name}.sh`)),
    ...services.map((service) => script(`${LIB}/health-${service.name}`, 'boot/health.sh', service)),
    script(`${LIB}/aws-ask`, 'boot/aws-ask.py'),
    ...(readsAws(plan) ? [script(`${LIB}/env-from`, 'boot/env-from.py')] : []),
    script(`${LIB}/proof`, 'boot/proof.sh', { services }),
    script('/usr/local/bin/bake-release', 'boot/bake-release.sh'),
  ]
}

const readsAws = ({ services }: Pick<Plan, 'services'>): boolean => services.some(({ envFrom }) => envFrom.length > 0)

function stepData({ architecture, services, setup }: Plan, files: RenderedFile[]) {
  const data = services.map((service) => serviceData(service, services))
  const images = new Map(services.map(({ reference }) => [`${reference.repository}@${reference.digest}`, reference]))
  const ports = [...images.values()].flatMap(
    ({ repository }) => /^(?:127\.\d+\.\d+\.\d+|localhost):(\d+)\//.exec(repository)?.[1] ?? [],
  )
  return {
    architecture,
    machine: UNAME[architecture],
    services: data,
    units: [...OWN_UNITS, ...data.map(({ unit }) => unit)],
    images: [...images.keys()].map((reference) => ({ reference })),
    imageBytes: [...images.values()].reduce((sum, { sizeBytes = 0 }) => sum + sizeBytes, 0),
    loopbackPorts: [...new Set(ports)],
    needsPython: readsAws({ services }),
    needsCurl: data.some(({ health }) => health.https !== null),
    volumes: volumeData(services),
    rehearseSeconds: REHEARSE_SECONDS + Math.max(0, ...data.map(({ limit }) => limit)),
    files: files.map(({ path, mode }) => ({ path, mode: mode.toString(8).padStart(4, '0') })),
    setup,
  }
}

/** HCL2 for a Packer whose plugins are built in (1.6), or named in the template (from 1.7 on). */
function packerTemplate(plan: Plan, plugins: boolean, { render }: Templates): string {
  const { base } = plan
  const data = base.kind === 'disk' ? qemuData(base) : amazonData(plan, base)
  return render(`packer/${data.source}.pkr.hcl`, { ...data, plugins, steps: STEPS })
}

/** What the baker brings to the machine, by path from the directory that it all goes to. */
export const machineKit = ({ files, steps, proof }: Rendered): RenderedFile[] => [
  ...steps,
  ...files.map((file) => ({ ...file, path: `files${file.path}` })),
  { path: 'proof.sh', text: proof, mode: 0o755 },
]

/** Writes the directory that Packer works in: `machine.pkr.hcl`, and `machine/` with the kit. Gives the paths, from `dir`. */
export async function writeRendered(dir: string, rendered: Rendered, hcl: string): Promise<string[]> {
  const kit = machineKit(rendered).map((file) => ({ ...file, path: `machine/${file.path}` }))
  const files = [{ path: 'machine.pkr.hcl', text: hcl, mode: 0o644 }, ...kit]
  for (const { path, text, mode } of files) {
    await mkdir(dirname(join(dir, path)), { recursive: true })
    await writeFile(join(dir, path), text, { mode })
  }
  return files.map(({ path }) => path)
}
