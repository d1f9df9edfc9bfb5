import { mkdir, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { ImageDefinition } from '../config.ts'
import { refused } from '../errors.ts'
import type { BuildRequest } from '../io/builder.ts'
import type { EngineInfo } from '../io/engine.ts'
import type { ImageJob, Pin } from '../jobs/job.ts'
import { tags } from '../names.ts'
import { formatReference } from '../reference.ts'
import { localPinReference, pinDockerfile } from './dockerfile.ts'
import type { ImageInputs } from './inputs.ts'
import type { ImageWorld } from './world.ts'

/** Of a repository that doesn't tell its default branch. */
const USUAL_DEFAULT = 'main'

/** Where a build happens on its worker: the number of a place with a work tree and a BUILDX_CONFIG that nothing else uses meanwhile. */
export type Place = number

/** What a request is made of; `root`: the work tree, at the job's commit. */
export interface Ingredients {
  definition: ImageDefinition
  inputs: ImageInputs
  engine: EngineInfo
  root: string
  place: Place
  /** id → file. */
  secrets: Record<string, string>
}

/** The build of a job as BuildKit is asked for it. It pushes nothing yet and writes no cache: that is its maker's to say. */
export async function buildRequest(job: ImageJob, made: Ingredients, world: ImageWorld): Promise<BuildRequest> {
  const { definition, inputs, engine, root, place } = made
  return {
    contextDir: join(root, inputs.contextPath),
    dockerfile: await writeDockerfile(join(world.slotDir(place), 'dockerfile', job.image), inputs, job.pins),
    push: [],
    target: definition.target,
    // As in the key, sorted and by their full names: an index written in another order has another digest.
    platforms: inputs.platforms,
    args: definition.args,
    secrets: made.secrets,
    ssh: definition.ssh,
    contexts: contextsOf(definition, inputs, root, job.pins),
    network: definition.network,
    attest: definition.attest,
    cacheFrom: await cachesOf(job, engine, world),
    configDir: join(world.slotDir(place), 'buildx'),
  }
}

/** A base that only this machine's engine has gets a name that nothing else moves. */
export async function tagLocalPins(pins: Pin[], world: ImageWorld): Promise<void> {
  for (const pin of pins.filter((each) => each.local)) {
    if (!(await world.engine.image(pin.digest))) {
      throw refused(
        'base_gone',
        `the base image ${pin.reference} (${pin.digest.slice(0, 19)}), which only this machine's engine had, is gone from it`,
        {
          next: `build or import ${pin.reference} again, then ask for a new commit; or push it to a registry`,
        },
      )
    }
    const reference = localPinReference(pin)
    const colon = reference.lastIndexOf(':')
    await world.engine.tag(pin.digest, reference.slice(0, colon), reference.slice(colon + 1))
  }
}

/** The pinned Dockerfile and its .dockerignore, at a path that is stable per slot and image. The context stays as it is in the commit. */
async function writeDockerfile(dir: string, inputs: ImageInputs, pins: Pin[]): Promise<string> {
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir, { recursive: true })
  const path = join(dir, basename(inputs.dockerfilePath))
  await writeFile(path, pinDockerfile(inputs.dockerfileText, inputs.analysis, pins))
  if (inputs.dockerignore !== undefined) await writeFile(`${path}.dockerignore`, inputs.dockerignore)
  return path
}

function contextsOf(definition: ImageDefinition, inputs: ImageInputs, root: string, pins: Pin[]): Record<string, string> {
  return Object.fromEntries(
    Object.entries(definition.contexts).map(([name, value]) => {
      const dir = inputs.contextPaths[name]
      if (dir !== undefined) return [name, join(root, dir)]
      const pin = pins.find((each) => each.reference === value.replace(/^docker-image:\/\//, ''))
      return [
        name,
        pin
          ? `docker-image://${pin.local ? localPinReference(pin) : `${pin.reference.replace(/@.*/, '')}@${pin.digest}`}`
          : value,
      ]
    }),
  )
}

/**
 * The branch's cache, then the default branch's, which serves every branch that has none of its own yet. An engine without the containerd store can't write such a cache: its images carry an
 * inline one, so there the branch's last images are read.
 */
async function cachesOf(job: ImageJob, engine: EngineInfo, world: ImageWorld): Promise<string[]> {
  const usual = (await world.source(job.repository).defaultBranch()) ?? USUAL_DEFAULT
  const branches = [...new Set([job.branch ?? usual, usual])]
  return branches.map((branch) =>
    engine.containerdStore
      ? world.cache(job.image, branch)
      : formatReference({ ...world.target(job.image), tag: tags.branch(branch) }),
  )
}
