import type { Base, DiskManifest, MachinePlan } from './machine.ts'

export const DISK_MANIFEST = '/etc/bake/manifest.json'

export const diskManifest = ({ base, services, inputs }: Pick<MachinePlan, 'base' | 'services' | 'inputs'>): DiskManifest => ({
  version: 1,
  inputs,
  base: baseOf(base),
  images: services.map(({ name, reference: { repository, digest } }) => ({ service: name, repository, digest })),
})

const baseOf = (base: Base): DiskManifest['base'] => (base.kind === 'ami' ? { ami: base.id } : { disk: base.sha256 })

/** JSON with a line per fact, in fixed places: on the machine sed reads it (templates/boot/proof.sh.hbs, bake-release.sh.hbs). */
export function formatDiskManifest({ version, inputs, base, images }: DiskManifest): string {
  const lines = images.map(
    ({ service, repository, digest }) =>
      `    {"service": ${JSON.stringify(service)}, "repository": ${JSON.stringify(repository)}, "digest": ${JSON.stringify(digest)}}`,
  )
  const [[kind, id]] = Object.entries(base) as [[string, string]]
  return [
    '{',
    `  "version": ${version},`,
    `  "inputs": ${JSON.stringify(inputs)},`,
    `  "base": {${JSON.stringify(kind)}: ${JSON.stringify(id)}},`,
    `  "images": [${lines.length === 0 ? '' : `\n${lines.join(',\n')}\n  `}]`,
    '}',
    '',
  ].join('\n')
}
