import { type BakeError, failed, unavailable } from '../errors.ts'
import type { FailedStep } from './buildx-events.ts'

export interface Evidence {
  /** The text after `ERROR: failed to solve: `. */
  reason: string
  step: FailedStep | undefined
  /** Line of the Dockerfile, from 1. */
  line: number | undefined
  /** Of the command of a RUN step. */
  exitCode: number | undefined
  ids: Record<string, string>
}

export interface Failure {
  pattern: RegExp
  /** Where the text comes from. */
  source: string
  error: (match: RegExpExecArray, evidence: Evidence) => BakeError
}

/** The summary, then what the failed step said last. */
export const withTail = (summary: string, { step }: Pick<Evidence, 'step'>): string =>
  step && step.tail.length > 0 ? `${summary}\n${step.tail.map((line) => `  ${line}`).join('\n')}` : summary

const at = ({ line }: Evidence) => (line === undefined ? '' : ` (Dockerfile line ${line})`)
const stepName = ({ step }: Evidence) => (step && !step.internal ? `${step.name}: ` : '')

const broken = (text: string, evidence: Evidence, next?: string) =>
  failed('dockerfile_failed', withTail(`${text}${at(evidence)}`, evidence), { ids: evidence.ids, ...(next ? { next } : {}) })

const engineGone = (_: RegExpExecArray, { reason, ids }: Evidence) =>
  unavailable('engine_gone', `the Docker engine went away: ${reason}`, {
    next: 'see whether it runs (docker info; journalctl -u docker), then bake retry',
    ids,
  })

const registry =
  (code: string, next: string) =>
  (match: RegExpExecArray, { ids }: Evidence) =>
    unavailable(code, `pushing ${match.groups?.ref ?? 'the image'} failed: ${match.groups?.why ?? match[0]}`, {
      next,
      ids: { ...ids, reference: match.groups?.ref ?? '' },
    })

const base = (match: RegExpExecArray, evidence: Evidence) =>
  unavailable(
    'base_pull_failed',
    `the base image ${match.groups?.ref ?? ''} can't be pulled${at(evidence)}: ${match.groups?.why ?? match[0]}`,
    {
      next: 'see whether its registry is up and this machine is logged in to it (docker pull), then bake retry',
      ids: { ...evidence.ids, reference: match.groups?.ref ?? '' },
    },
  )

/** HTTP statuses and network errors as Go's net/http and containerd's remotes/docker word them. */
const PUSH = String.raw`^failed to push (?<ref>\S+): (?<why>.*`
const NETWORK = `dial tcp|connection refused|connection reset|no such host|i/o timeout|TLS handshake|x509:|server gave HTTP response|: EOF$|deadline exceeded|broken pipe|use of closed network connection`
const DENIED = String.raw`\b40[135] |denied|unauthorized|authorization failed|insufficient_scope|no basic auth credentials`
/** Registries such as ECR take no push to a repository that nobody created. */
const MISSING = String.raw`from POST request to \S+: 404 |name unknown: `
const FULL = String.raw`no space left on device|quota exceeded|\b507 |\b413 `

/**
 * First match wins, on the text after "failed to solve: ". Texts were collected from buildx 0.13.1 with Engine 26.1.5 (BuildKit 0.12/0.13), each by making
 * it happen; those marked (source) were read in the sources. A step's own command may contain any text, so what quotes one comes first.
 */
export const FAILURES: Failure[] = [
  {
    pattern: /^process ".*" did not complete successfully: exit code: (\d+)/s,
    source:
      'solver/llbsolver/ops/exec.go: a RUN ended with another code than 0; 137 is SIGKILL, nearly always the kernel’s for lack of memory',
    error: ([, code], evidence) =>
      broken(
        `${stepName(evidence)}exit code ${code}`,
        evidence,
        code === '137' ? 'it was killed: give the engine more memory, or the step less to do' : undefined,
      ),
  },
  {
    pattern: /permission denied while trying to connect to the Docker daemon socket/,
    source: 'docker/client: errors.go',
    error: (_, { reason, ids }) =>
      unavailable('engine_denied', reason, { next: 'sudo usermod -aG docker "$USER", then log in anew', ids }),
  },
  {
    pattern:
      /^Cannot connect to the Docker daemon|^error during connect|error reading from server: (?:EOF|.*connection reset)|^(?:rpc error: code = )?Unavailable|transport is closing|closing transport|failed to receive status|no active session|^EOF$|^docker-buildx ended by/,
    source:
      'docker/client: errors.go; grpc-go: the connection to the engine ended in the middle of a build; buildx itself was killed',
    error: engineGone,
  },
  {
    pattern: new RegExp(`${PUSH}(?:${FULL}).*)`, 's'),
    source: 'containerd remotes/docker/pusher.go',
    error: registry('registry_full', 'free space on the registry’s disk, then bake retry'),
  },
  {
    pattern: new RegExp(`${PUSH}(?:${MISSING}).*)`, 's'),
    source: 'containerd remotes/docker/pusher.go: an upload can’t begin; name unknown is how the engine’s own push tells it',
    error: registry('repository_missing', 'create that repository (on ECR: bake setup), then bake retry'),
  },
  {
    pattern: new RegExp(`${PUSH}(?:${DENIED}).*)`, 's'),
    source: 'containerd remotes/docker/pusher.go; 405 is a read-only docker-registry',
    error: registry(
      'registry_denied',
      'log in where the worker runs (docker login), or on ECR give it the policy of bake setup --policies, and see whether it may push there; then bake retry',
    ),
  },
  {
    pattern: new RegExp(`${PUSH}(?:${NETWORK}).*)`, 's'),
    source: 'Go net/http through containerd remotes/docker',
    error: registry('registry_unreachable', 'see whether the registry runs and the engine reaches it, then bake retry'),
  },
  {
    pattern: new RegExp(`${PUSH})`, 's'),
    source: 'util/push/push.go',
    error: registry('registry_error', 'look at the registry’s log and its disk, then bake retry'),
  },
  {
    pattern: /use of closed network connection/,
    source: 'Go net: buildx’s own connection to the engine, because a push’s would have said so above',
    error: engineGone,
  },
  {
    pattern: /(?<why>no space left on device|disk quota exceeded)/i,
    source: 'errno ENOSPC, EDQUOT of the engine’s own files',
    error: ({ groups }, evidence) =>
      unavailable('disk_full', withTail(`the disk under the Docker engine is full: ${evidence.reason}`, evidence), {
        next: 'free space (docker system df; docker buildx prune), then bake retry',
        ids: { ...evidence.ids, cause: groups?.why ?? '' },
      }),
  },
  {
    pattern: /failed to resolve source metadata for (?<ref>\S+): (?<why>(?:.*: )?not found|.*manifest unknown.*)$/s,
    source: 'source/containerimage: the registry answered, and has no such image',
    error: ({ groups }, evidence) =>
      failed('base_not_found', `the base image ${groups?.ref} doesn't exist${at(evidence)}`, {
        next: 'correct the reference in the Dockerfile, or push that image',
        ids: { ...evidence.ids, reference: groups?.ref ?? '' },
      }),
  },
  {
    pattern: /failed to resolve source metadata for (?<ref>\S+): (?<why>.*)$/s,
    source: 'source/containerimage: the registry of a FROM, COPY --from or # syntax can’t be asked',
    error: base,
  },
  {
    pattern:
      /(?<why>failed to copy: httpReadSeeker.*|pull access denied.*|failed to (?:fetch|load) (?:oauth|anonymous) token.*|failed to authorize.*)$/s,
    source: 'containerd remotes/docker/httpreadseeker.go, resolver.go: a base image’s layer',
    error: base,
  },
  {
    pattern: /failed to calculate checksum of ref \S+: "\/?(?<path>.*?)": not found/s,
    source: 'cache/contenthash: a COPY or ADD source that the context doesn’t have',
    error: ({ groups }, evidence) =>
      broken(
        `${stepName(evidence)}${groups?.path} isn't in the context`,
        evidence,
        'commit the file, or see whether .dockerignore leaves it out',
      ),
  },
  {
    pattern: /^lstat \S*\/buildkit-mount\d+\/(?<path>.*): no such file or directory$/s,
    source: 'solver/llbsolver/file: a COPY --from source that the stage doesn’t have',
    error: ({ groups }, evidence) =>
      broken(`${stepName(evidence)}/${groups?.path} isn't in the stage it is copied from`, evidence),
  },
  {
    pattern: /^target stage "(?<stage>.*)" could not be found/,
    source: 'frontend/dockerfile/dockerfile2llb',
    error: ({ groups }, evidence) =>
      broken(
        `the Dockerfile has no stage ${groups?.stage}`,
        evidence,
        'correct `target` in bake.yaml, or name a stage so (FROM … AS …)',
      ),
  },
  {
    pattern: /^secret (?<id>\S+): not found$/,
    source: 'session/secrets: a RUN --mount=type=secret,required=true',
    error: ({ groups }, evidence) =>
      broken(
        `${stepName(evidence)}needs the secret ${groups?.id}`,
        evidence,
        `add ${groups?.id} to the image's \`secrets\` in bake.yaml`,
      ),
  },
  {
    pattern: /^unset ssh forward key (?<id>\S+)/,
    source: 'session/sshforward: a RUN --mount=type=ssh,required=true',
    error: ({ groups }, evidence) =>
      broken(
        `${stepName(evidence)}needs ssh (${groups?.id})`,
        evidence,
        `add \`ssh: [${groups?.id}]\` to the image in bake.yaml`,
      ),
  },
  {
    pattern: /^invalid empty ssh agent socket/,
    source: 'buildx: SSH_AUTH_SOCK names no agent',
    error: (_, { reason, ids }) => unavailable('ssh_agent_missing', reason, { next: 'start the worker with an ssh agent', ids }),
  },
  {
    pattern:
      /^(?:dockerfile parse error|the Dockerfile cannot be empty|no build stage in current context|failed to process|unknown instruction|failed to read dockerfile|circular dependency)/,
    source: 'frontend/dockerfile/parser, instructions and dockerfile2llb',
    error: (_, evidence) =>
      broken(evidence.reason.replace(/^dockerfile parse error on line \d+: /, 'the Dockerfile has an error: '), evidence),
  },
]
