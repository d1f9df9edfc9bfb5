import { createHash, randomBytes } from 'node:crypto'

/** Project, image, service and worker names; also a legal repository path component (OCI distribution spec, "Pulling manifests"). */
export const NAME_PATTERN = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/
export const BUILD_ID_PATTERN = /^[0-9a-hjkmnp-tv-z]{9}-[0-9a-hjkmnp-tv-z]{6}$/
export const COMMIT_PATTERN = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/
export const DIGEST_PATTERN = /^sha256:[0-9a-f]{64}$/
export const KEY_PATTERN = /^[0-9a-f]{64}$/

/** The rules of git-check-ref-format(1) for a branch, for names that come with a job; one that starts with - is refused as well. */
export function isBranchName(name: string): boolean {
  if (name === '' || name === '@' || name.startsWith('-') || name.endsWith('.')) return false
  if (/[\0-\x20\x7f~^:?*[\\]|\.\.|@\{/.test(name)) return false
  return name.split('/').every((part) => part !== '' && !part.startsWith('.') && !part.endsWith('.lock'))
}

const RELEASE_CHARACTERS = 128

/** Why a text is no release's name, which tags of EC2, user-data and instances' environments carry as it is; undefined when it is one. */
export function releaseNameProblem(name: string): string | undefined {
  if (name.length > RELEASE_CHARACTERS) return `it has ${name.length} characters, ${RELEASE_CHARACTERS} at most`
  if (/^[A-Za-z0-9][A-Za-z0-9._+/-]*$/.test(name) && !/\/\/|\/$|\.\./.test(name)) return undefined
  return 'letters, digits and . _ + / - are taken, a letter or digit first'
}

const CROCKFORD = '0123456789abcdefghjkmnpqrstvwxyz'
/** 9 Crockford digits hold 45 bits of milliseconds: until the year 3084. */
const LAST_MS = 2 ** 45 - 1

const crockford = (value: number, digits: number): string => {
  let text = ''
  for (let rest = value; text.length < digits; rest = Math.floor(rest / 32)) text = CROCKFORD[rest % 32] + text
  return text
}

/** A build id: inverted milliseconds, so that ids sort newest first, then 30 random bits. `ybr15gj57-3fgtss` */
export function newBuildId(atMs?: number): string {
  if (atMs === undefined) lastIdMs = Math.max(Date.now(), lastIdMs + 1)
  return `${crockford(LAST_MS - (atMs ?? lastIdMs), 9)}-${crockford(randomBytes(4).readUInt32BE() >>> 2, 6)}`
}

/** Ids of one process differ in their first nine digits, so that these name a build for people. */
let lastIdMs = 0

/** When a build id was made, ms since the epoch. */
export const buildIdTime = (id: string): number =>
  LAST_MS - [...id.slice(0, 9)].reduce((value, digit) => value * 32 + CROCKFORD.indexOf(digit), 0)

export const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex')

/** A branch name as a tag or key component: kept when it is one already, else cleaned and told apart by a hash (`feature/a` ≠ `feature-a`). */
export function branchSlug(branch: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$/.test(branch)) return branch
  const clean = branch.replace(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[.-]+/, '')
  return `${clean.slice(0, 90)}-${sha256(branch).slice(0, 8)}`
}

/** Tags of docs/design.md §7. `n` is the number of a claim log entry. */
export const tags = {
  key: (key: string, n: number) => `key-${key.slice(0, 20)}-${n}`,
  commit: (commit: string, rebuilt?: number) => (rebuilt === undefined ? `sha-${commit}` : `sha-${commit}-r${rebuilt}`),
  /** For a commit whose plain tag names the image of another key: `max_age` began a new period, or the ledger is another one. */
  commitOfKey: (commit: string, key: string) => `sha-${commit}-k${key.slice(0, 8)}`,
  branch: (branch: string) => `branch-${branchSlug(branch)}`,
  cache: (image: string, branch: string) => `${image}.${branchSlug(branch)}`.slice(0, 128),
}

/** Log entries are numbered so that text order is number order. */
export const entry = (n: number): string => String(n).padStart(8, '0')

/** Every key of the ledger, in one place. */
export const keys = {
  claims: (key: string) => `claims/${key}/`,
  claim: (key: string, n: number) => `claims/${key}/${entry(n)}`,
  image: (key: string) => `images/${key}`,
  commit: (commit: string, image: string) => `commits/${commit}/${image}`,
  builds: 'builds/',
  build: (id: string) => `builds/${id}`,
  log: (id: string, n: number) => `logs/${id}/${entry(n)}`,
  branches: (image: string, branch: string) => `branches/${image}/${branchSlug(branch)}/`,
  branch: (image: string, branch: string, n: number) => `branches/${image}/${branchSlug(branch)}/${entry(n)}`,
  period: (target: string, period: number) => `periods/${sha256(target).slice(0, 32)}/${period}`,
  cancel: (id: string) => `cancels/${id}`,
  /** Who tells of a build's end, and whether that is done. */
  notice: (id: string) => `notices/${id}`,
  /** Everybody who asked for an image key: whose cancellation stops its build. */
  askers: (key: string) => `askers/${key}/`,
  asker: (key: string, build: string) => `askers/${key}/${build}`,
  /** Everybody who asked for a branch's image, newest first: what a queued build may be superseded by. */
  asks: (image: string, branch: string) => `asks/${image}/${branchSlug(branch)}/`,
  ask: (image: string, branch: string, build: string) => `asks/${image}/${branchSlug(branch)}/${build}`,
  /** The newest publication of each image: what a worker warms its caches with. */
  latests: 'latest/',
  latest: (image: string) => `latest/${image}`,
  /** The fleet's members, as they last told of themselves. */
  workers: 'workers/',
  worker: (name: string) => `workers/${name}`,
  beat: (owner: string) => `beats/${owner}`,
  grave: (owner: string) => `graves/${owner}`,
  /** What a release is: created once, under its name as a key's part. */
  releases: 'releases/',
  release: (name: string) => `releases/${branchSlug(name)}`,
  /** What claim n of an inputs hash made; which hashes a release was baked under. */
  machines: 'machines/',
  machine: (inputs: string, n: number) => `machines/${inputs}/${entry(n)}`,
  releaseMachines: (name: string) => `release-machines/${branchSlug(name)}/`,
  releaseMachine: (name: string, inputs: string) => `release-machines/${branchSlug(name)}/${inputs}`,
  /** One run of `bake ami` that made something. */
  bakes: 'bakes/',
  bake: (id: string) => `bakes/${id}`,
  /** What a name of an AMI stands for until --refresh-base. */
  base: (hash: string) => `bases/${hash.slice(0, 32)}`,
  /** Snapshots that a worker's next bakes are put upon. */
  parents: (worker: string) => `parents/${worker}`,
  /** What a part of `bake prune` means to delete. */
  prune: (part: string) => `prunes/${branchSlug(part)}`,
  /** What is delivered to a stack, one after the other; and the steps of each, as they are taken. */
  allDeployments: 'deployments/',
  deployments: (stack: string) => `deployments/${stack}/`,
  deployment: (stack: string, n: number) => `deployments/${stack}/${entry(n)}`,
  swaps: (stack: string) => `swaps/${stack}/`,
  swap: (stack: string, n: number) => `swaps/${stack}/${entry(n)}`,
  deploymentSteps: (stack: string, n: number) => `deployment-steps/${stack}/${entry(n)}/`,
  deploymentStep: (stack: string, n: number, k: number) => `deployment-steps/${stack}/${entry(n)}/${entry(k)}`,
  layers: (target: string) => `layers/${sha256(target).slice(0, 32)}`,
}
