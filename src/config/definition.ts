import { z } from 'zod'
import { contextSource, duration, id, name, path, platform, registry, repository, size, ssmPath, variables } from './fields.ts'
import { machine } from './machine-definition.ts'
import { notify } from './notify-definition.ts'
import { stack } from './stack-definition.ts'

/**
 * The definition of bake.yaml: shapes and values. What several settings must agree on is in contradictions.ts. The JSON Schema and the
 * descriptions that editors show come from here (schema.ts).
 */

const secrets = z.union([
  z.array(z.union([id, z.strictObject({ id, ssm: ssmPath.optional() })])),
  z.record(id, z.union([z.strictObject({ ssm: ssmPath.optional() }), z.null()])),
])

const imageTable = z.strictObject({
  context: path
    .optional()
    .describe('Directory with the sources, from the directory of bake.yaml. Default: that directory itself.'),
  dockerfile: path.optional().describe('The Dockerfile, from the context as in compose. Default: Dockerfile.'),
  target: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/, 'must be the name of a stage')
    .optional()
    .describe('The stage to build. Default: the last one.'),
  platforms: z.array(platform).optional().describe('Platforms, such as linux/amd64. Default: the one of the worker.'),
  args: variables.optional().describe('Build arguments (ARG). They decide the content and are no place for secrets.'),
  secrets: secrets
    .optional()
    .describe(
      'Secrets for RUN --mount=type=secret: ids, whose values the worker reads from BAKE_SECRET_<ID>, a file in BAKE_SECRETS_DIR or { ssm: /path }.',
    ),
  ssh: z.array(id).optional().describe("Agents for RUN --mount=type=ssh; `default` is the worker's own."),
  contexts: z
    .record(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_./:-]*$/, 'must be a name that a FROM or --from= can use'), contextSource)
    .optional()
    .describe('Named contexts: a directory of the repository, or docker-image://REFERENCE.'),
  network: z.enum(['default', 'none', 'host']).optional().describe('Network of RUN steps.'),
  submodules: z.boolean().optional().describe('Check submodules out. Default: a context with submodules is refused.'),
  lfs: z.boolean().optional().describe('Fetch Git LFS files. Default: a context with LFS pointers is refused.'),
  strict: z.boolean().optional().describe('Refuse what is only a warning otherwise, such as ADD of a URL without a checksum.'),
  max_age: duration
    .optional()
    .describe('Build again after this time, although nothing changed, so that packages stay fresh: 7d.'),
  attest: z.boolean().optional().describe('Attach SBOM and provenance. Default: no, so that equal inputs give an equal digest.'),
})

const image = z.union([imageTable, path.describe('The context, everything else by default.'), z.null()])

const aws = z.strictObject({
  region: z
    .string()
    .regex(/^[a-z]{2,}(?:-[a-z]+)+-[0-9]+$/, 'must be a region, such as us-east-1')
    .describe('Region of queue and ledger.'),
  queue: z
    .string()
    // 80 is SQS's limit, less the `-dead` of its dead-letter queue.
    .regex(/^[A-Za-z0-9_-]{1,75}$/, 'must be 1 to 75 letters, digits, - and _')
    .describe('SQS queue; its dead-letter queue has -dead at the end.'),
  bucket: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be the name of a bucket: 3 to 63 lower-case letters, digits, . and -')
    .describe('S3 bucket of the ledger.'),
})

const fleet = z.strictObject({
  shards: z
    .number()
    .int()
    .min(1)
    .max(64)
    .optional()
    .describe('Queues that the work is spread over, so that a branch finds its warm worker.'),
  steal_after: duration
    .optional()
    .describe('A worker that always has work of its own takes a job from another shard this often. Default: 60s.'),
  supersede: z.boolean().optional().describe("A newer commit of a branch replaces the branch's queued ones."),
  prefix: name.optional().describe("In front of the ledger's keys, so that two fleets can share a bucket."),
})

const worker = z.strictObject({
  slots: z.number().int().min(1).max(64).optional().describe('Builds at a time. Default: the number of processors, at least 2.'),
  bakes: z.boolean().optional().describe('Workers bake machine images too, and bake ami asks them. Needs aws.'),
  repositories: z.array(repository).optional().describe("Repositories whose jobs are taken. Default: the project's own."),
  disk: z
    .strictObject({
      cache: size.optional().describe('Most that the build cache may hold.'),
      free: size.optional().describe("What stays free on the engine's disk."),
    })
    .optional()
    .describe('Limits of the disk.'),
})

export const definition = z.strictObject({
  project: name.describe('Name of the project: part of repositories, tags and records.'),
  repository: repository
    .optional()
    .describe(
      'Where workers fetch commits from: https, ssh, or a local path on one machine. Default: the checkout bake runs in.',
    ),
  aws: aws.optional().describe('Queue and ledger on AWS. Leave out: everything runs on this machine.'),
  registry: registry
    .optional()
    .describe("Where images go, host[:port]/path without a tag. Default: this machine's own registry."),
  images: z
    .record(name, image)
    .refine((images) => Object.keys(images).length > 0, 'must have at least one image')
    .describe('The images, by name.'),
  machine: machine.optional().describe('The machine image that boots with the images inside.'),
  stacks: z.record(name, stack).optional().describe('What releases are delivered to, by name.'),
  fleet: fleet.optional().describe('The workers together.'),
  worker: worker.optional().describe('Each worker.'),
  notify: z.array(notify).optional().describe('Who is told what.'),
})

export type Definition = z.output<typeof definition>
