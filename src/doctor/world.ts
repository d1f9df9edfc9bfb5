import { access, constants, mkdtemp, readdir, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { type Config, loadConfig, locateConfig } from '../config.ts'
import { emulatedPlatforms } from '../io/binfmt.ts'
import { findBuildx } from '../io/buildx-find.ts'
import { missingForDisks } from '../io/change-disk.ts'
import { which } from '../io/child.ts'
import { helperWay } from '../io/disk-helper.ts'
import { DockerEngine } from '../io/docker.ts'
import { dockerEndpoint } from '../io/docker-endpoint.ts'
import { engineEnvironment } from '../io/engine-environment.ts'
import { missingTools } from '../io/machine-tools.ts'
import { runTool } from '../io/run-tool.ts'
import { secretVariable } from '../io/secrets.ts'
import { packageFile } from '../package-root.ts'
import { machinePlatform } from '../platform-name.ts'
import { parseReference } from '../reference.ts'
import type { DoctorWorld } from './types.ts'

/** This machine as `bake doctor` sees it from the directory `cwd`. Nothing is looked at before it is asked for. */
export function openWorld(cwd: string, env: NodeJS.ProcessEnv = process.env): DoctorWorld {
  const engine = new DockerEngine(env)
  let config: Promise<Config> | undefined
  const project = () => {
    config ??= locateConfig(cwd).then(loadConfig)
    return config
  }
  const git = (...args: string[]) => runTool('git', args, { cwd, env: { ...env, LC_ALL: 'C' } })
  return {
    nodeVersion: process.versions.node,
    platform: machinePlatform(),
    config: project,
    engine,
    engineHost: async () => (await dockerEndpoint(env)).host,
    engineEnvironment: async () => engineEnvironment((await dockerEndpoint(env)).host),
    buildx: () => findBuildx(env),
    which: (program) => which(program, env.PATH),
    missingTools,
    missingForDisks,
    diskHelper: () => helperWay(packageFile('templates/direct/helper.sh'), env),
    kvm: () =>
      access('/dev/kvm', constants.R_OK | constants.W_OK).then(
        () => true,
        () => false,
      ),
    emulated: () => emulatedPlatforms(),
    registryImage: env.BAKE_REGISTRY_IMAGE || undefined,
    gitVersion: async () => /(\d+\.\d+(?:\.\d+)*)/.exec(await git('--version'))?.[1],
    git,
    stateDir: async () => {
      const file = await project().then(
        (found) => found.file,
        () => join(cwd, 'bake.yaml'),
      )
      return resolve(env.BAKE_STATE_DIR || join(dirname(file), '.bake'))
    },
    hasSecret: async (id) => {
      if (env[secretVariable(id)]) return true
      const file = env.BAKE_SECRETS_DIR && (await stat(join(env.BAKE_SECRETS_DIR, id)).catch(() => undefined))
      return Boolean(file && file.size > 0)
    },
    hasAgent: Boolean(env.SSH_AUTH_SOCK),
    async registryHead(repository, signal) {
      const { HttpRegistry } = await import('../io/registry-http.ts')
      await new HttpRegistry({ timeoutMs: 5_000, retries: 0, signal }).head(parseReference(repository))
    },
    async queueDepth({ region, queue: prefix }, { shards = 1, bakes }) {
      const { SqsQueue } = await import('../io/queue-sqs.ts')
      const queue = await SqsQueue.open({ region, prefix, shards, bakes })
      try {
        return await queue.depth()
      } finally {
        queue.close()
      }
    },
    async readLedger({ region, bucket }, prefix) {
      const { S3Ledger } = await import('../io/ledger-s3.ts')
      await new S3Ledger({ region, bucket, ...(prefix === undefined ? {} : { prefix }) }).list('builds/', { limit: 1 })
    },
    async disk(path) {
      const { bavail, bsize, blocks, files, ffree } = await statfs(await existing(path))
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize, freeInodes: ffree, inodes: files }
    },
    async tryWriting(dir) {
      const at = await existing(dir)
      if (at !== dir) {
        await access(at, constants.W_OK | constants.X_OK)
        return undefined
      }
      const own = await mkdtemp(join(dir, 'doctor-'))
      try {
        const before = Date.now()
        await writeFile(join(own, 'probe'), 'x')
        return { skewMs: (await stat(join(own, 'probe'))).mtimeMs - before }
      } finally {
        await rm(own, { recursive: true, force: true })
      }
    },
    newest: async (dir) => {
      const names = await readdir(dir).catch(() => [] as string[])
      const times = await Promise.all(
        names.map((name) =>
          stat(join(dir, name)).then(
            ({ mtimeMs }) => mtimeMs,
            () => 0,
          ),
        ),
      )
      return Math.max(0, ...times)
    },
    now: () => Date.now(),
    linux: process.platform === 'linux',
  }
}

/** `path`, or the nearest directory above it that is there. */
async function existing(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    const found = await stat(at).catch(() => undefined)
    if (found !== undefined || dirname(at) === at) return at
  }
}
