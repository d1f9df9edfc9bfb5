import { readFile } from 'node:fs/promises'
import { delimiter, isAbsolute, join } from 'node:path'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { failed, unavailable } from '../errors.ts'
import { isExecutable, killGroup, spawnChild } from './child.ts'
import { type PackerLine, parsePackerLine } from './packer-lines.ts'
import { runTool } from './run-tool.ts'

/** HCL2 templates with `source` and `build` blocks came with 1.5, those that are rendered here work from this one on. */
const OLDEST = [1, 6] as const
/** Packer ends a source by itself when it is asked to: a virtual machine is powered off, an instance terminated and waited for. */
const GRACE_MS = 120_000
const INSTALL = 'bin/setup --machines installs it on Debian and Ubuntu; elsewhere: https://developer.hashicorp.com/packer/install'

export interface Packer {
  path: string
  /** As in `1.6.6`. */
  version: string
  /** From 1.7 on plugins are named in the template (`required_plugins`); 1.6 has them built in and refuses that block. */
  namesPlugins: boolean
}

/** The Packer of PATH. Throws packer_missing or packer_too_old (exit 4). Red Hat's cracklib has a program of that name too: it is passed over. */
export async function findPacker(env: NodeJS.ProcessEnv = process.env): Promise<Packer> {
  for (const dir of (env.PATH ?? '').split(delimiter).filter(isAbsolute)) {
    const path = join(dir, 'packer')
    if (!isExecutable(path)) continue
    const said = await runTool(path, ['version'], { env: packerEnvironment(env) }).catch(() => '')
    const version = /^Packer v?(\d+\.\d+\.\d+)/m.exec(said)?.[1]
    if (version === undefined) continue
    const [major = 0, minor = 0] = version.split('.').map(Number)
    if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
      throw unavailable('packer_too_old', `Packer ${version} (${path}) is too old: ${OLDEST.join('.')} or later is needed`, {
        next: INSTALL,
        ids: { path },
      })
    return { path, version, namesPlugins: major > 1 || minor >= 7 }
  }
  throw unavailable('packer_missing', 'Packer is not installed', { next: INSTALL })
}

/**
 * No questions to the internet, no colours, nothing of the person's own settings but where plugins are. AWS_MAX_ATTEMPTS is how often SDKs try, and to
 * Packer how often it looks whether an AMI is ready: https://developer.hashicorp.com/packer/integrations/hashicorp/amazon
 */
const packerEnvironment = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
  ...env,
  AWS_MAX_ATTEMPTS: undefined,
  CHECKPOINT_DISABLE: '1',
  PACKER_NO_COLOR: '1',
})

/** From 1.7 on: the plugin of a source must be installed. Throws packer_plugin_missing (exit 4) with the command that brings it. */
export async function assertPackerPlugin(packer: Packer, plugin: 'qemu' | 'amazon'): Promise<void> {
  if (!packer.namesPlugins) return
  const said = await runTool(packer.path, ['plugins', 'installed'], { env: packerEnvironment(process.env) }).catch(() => '')
  const source = `github.com/hashicorp/${plugin}`
  if (said.includes(source)) return
  throw unavailable('packer_plugin_missing', `Packer ${packer.version} has no ${plugin} plugin`, {
    next: `packer plugins install ${source}`,
  })
}

export interface PackerRun {
  /** Directory with machine.pkr.hcl; Packer's cache and manifest go there too. */
  dir: string
  signal: AbortSignal
  /** After a failure Packer leaves what it made: of its qemu builder `output/` with the disk, of others also what costs money. */
  keepFailed?: boolean
  onLine(line: PackerLine): void
}

/** `packer validate`. Throws packer_invalid (exit 3) with what Packer says. */
export async function validateTemplate(packer: Packer, run: PackerRun): Promise<void> {
  const said: string[] = []
  const exit = await runPacker(packer, ['validate', '.'], { ...run, onLine: ({ text }) => said.push(text) })
  if (exit === 0) return
  throw failed('packer_invalid', `packer validate refused the template:\n${said.join('\n')}`, {
    next: 'bake render --out DIR writes it for review; a template of your own (machine.templates) may be the reason',
  })
}

const manifestSchema = z.object({
  last_run_uuid: z.string(),
  builds: z.array(z.object({ packer_run_uuid: z.string(), artifact_id: z.string(), builder_type: z.string() })),
})

/**
 * `packer build`; the artifact's id as its manifest post-processor wrote it to `packer-manifest.json`: `region:ami-…` for AMIs. Packer's stdout is for
 * people and no source. Throws packer_failed (exit 3) with what Packer gave as the reason; aborted, Packer first undoes what it made.
 */
export async function buildTemplate(packer: Packer, run: PackerRun): Promise<string> {
  const errors: string[] = []
  const exit = await runPacker(
    packer,
    ['build', '-color=false', '-machine-readable', `-on-error=${run.keepFailed ? 'abort' : 'cleanup'}`, '.'],
    {
      ...run,
      onLine(line) {
        if (line.type === 'failed' || line.type === 'error') errors.push(line.text)
        run.onLine(line)
      },
    },
  )
  run.signal.throwIfAborted()
  if (exit !== 0)
    throw failed(
      'packer_failed',
      errors.at(-1) ?? (exit === null ? 'packer build was killed' : `packer build ended with ${exit}`),
      { ids: { packer: packer.version } },
    )
  const manifest = manifestSchema.parse(JSON.parse(await readFile(join(run.dir, 'packer-manifest.json'), 'utf8')))
  const built = manifest.builds.find((build) => build.packer_run_uuid === manifest.last_run_uuid)
  if (!built) throw failed('packer_failed', "Packer's manifest doesn't name the build of its last run")
  return built.artifact_id
}

async function runPacker(packer: Packer, args: string[], { dir, signal, onLine }: PackerRun): Promise<number | null> {
  await using child = spawnChild(packer.path, args, {
    cwd: dir,
    env: { ...packerEnvironment(process.env), PACKER_CACHE_DIR: join(dir, 'packer-cache'), TMPDIR: dir },
    stdout: 'pipe',
    stderr: 'pipe',
    signal,
    graceMs: GRACE_MS,
    // It wraps itself: the inner process would go on until it has something to write.
    group: true,
  })
  const read = (stream: NodeJS.ReadableStream) =>
    new Promise<void>((resolve) => {
      createInterface({ input: stream })
        .on('line', (line) => parsePackerLine(line).forEach(onLine))
        .once('close', resolve)
    })
  // Told to keep what failed, or killed, Packer leaves its virtual machine running, with our pipes open.
  const exited = child.exited.finally(() => killGroup(child.pid, 'SIGKILL'))
  const [exit] = await Promise.all([exited, read(child.stdout!), read(child.stderr!)])
  if (exit.error) throw exit.error
  return exit.code
}
