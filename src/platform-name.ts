import { refused } from './errors.ts'

export interface Platform {
  os: string
  architecture: string
  /** '' when the architecture has none or it is the usual one. */
  variant: string
}

const ARCHITECTURES: Record<string, [architecture: string, variant?: string]> = {
  i386: ['386'],
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  aarch64: ['arm64'],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
}

/**
 * `os/arch[/variant]`, normalised: `linux/aarch64` is `linux/arm64`, `linux/arm` is `linux/arm/v7`, the usual variant of arm64 (v8) and amd64 (v1)
 * is left out. Throws bad_platform (exit 2). Source: https://github.com/containerd/platforms/blob/main/database.go
 */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split('/')
  if (parts.length < 2 || parts.length > 3 || parts.some((part) => !/^[a-z0-9._-]+$/.test(part)))
    throw refused('bad_platform', `"${text}" is not a platform`, {
      next: 'write os/architecture, for example linux/amd64 or linux/arm64',
    })
  return normalise({ os: parts[0]!, architecture: parts[1]!, variant: parts[2] ?? '' })
}

/** One spelling for each platform: see parsePlatform. */
export function normalise({ os, architecture, variant }: Platform): Platform {
  const [known, implied] = ARCHITECTURES[architecture] ?? [architecture]
  let one = implied ?? variant
  if (known === 'arm') one = one === '' ? 'v7' : /^\d/.test(one) ? `v${one}` : one
  if ((known === 'arm64' && (one === 'v8' || one === '8')) || (known === 'amd64' && one === 'v1')) one = ''
  return { os: os === 'macos' ? 'darwin' : os, architecture: known, variant: one }
}

export const formatPlatform = ({ os, architecture, variant }: Platform): string =>
  `${os}/${architecture}${variant ? `/${variant}` : ''}`

/** The platform an engine on this kind of machine builds for by itself. */
export const machinePlatform = (arch: string = process.arch): string =>
  `linux/${({ x64: 'amd64', ia32: '386', arm: 'arm/v7' } as Record<string, string>)[arch] ?? arch}`

/** The arguments that BuildKit sets before the first FROM. Source: frontend/dockerfile/dockerfile2llb/platform.go of moby/buildkit. */
export function platformArguments(target: Platform, build: Platform, stage: string): Map<string, string> {
  const of = (prefix: string, platform: Platform): [string, string][] => [
    [`${prefix}PLATFORM`, formatPlatform(platform)],
    [`${prefix}OS`, platform.os],
    [`${prefix}OSVERSION`, ''],
    [`${prefix}ARCH`, platform.architecture],
    [`${prefix}VARIANT`, platform.variant],
  ]
  return new Map([...of('BUILD', build), ...of('TARGET', target), ['TARGETSTAGE', stage]])
}
