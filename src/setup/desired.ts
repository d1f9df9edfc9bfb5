import { TAG } from '../aws-tags.ts'
import type { Resource, Settings } from '../io/aws-resource.ts'
import { SWAP_DOCUMENT, swapDocument, swapParameter } from '../swap-document.ts'
import type { SetupAws, SetupRepositories, SetupSwap, SetupTarget } from './types.ts'

const DAY_SECONDS = 24 * 3600

/** docs/design.md §6: 4 days, dead letters 14 (the most that SQS keeps). */
const RETENTION_SECONDS = 4 * DAY_SECONDS
const DEAD_RETENTION_SECONDS = 14 * DAY_SECONDS
/** Workers ask for their own; this is for people who receive by hand. */
const VISIBILITY_SECONDS = 60
/** The longest that SQS knows: fewest requests. */
const LONG_POLL_SECONDS = 20
/**
 * The most that SQS allows. Attempts are counted in the claim log, and a message that waits for another's build may be handed back every few seconds for as
 * long as that takes; this is for a message that ends every worker that receives it.
 */
const MAX_RECEIVES = 1_000

/**
 * Days after which what is over is removed from the ledger. Nothing else ever is: claims/, images/, commits/ and branches/ are what makes "already done" true.
 * Askers, asks and cancels outlive the queue's retention and the dead letters'.
 */
const EXPIRY_DAYS: Record<string, number> = {
  'workers/': 7,
  'beats/': 7,
  'graves/': 7,
  'askers/': 30,
  'asks/': 30,
  'cancels/': 30,
  'notices/': 30,
  'logs/': 90,
  'builds/': 90,
}

/** Tags that move; all others are set once (docs/design.md §7). */
const MOVABLE_TAGS = ['branch-*']
/** What nothing names any more in an image repository. */
const UNTAGGED_IMAGE_DAYS = 30
/** A cache that was written anew leaves its predecessor without a tag; somebody may be reading it. */
const UNTAGGED_CACHE_DAYS = 3
/** Of a branch that nobody builds any more. */
const IDLE_CACHE_DAYS = 60

/** Not every type of instance is there in every zone, at every time. */
const PROOF_ZONES = 3

/** Everything that bake.yaml's queue, ledger, registry and machine need in the account, in the order of making it. */
export const desiredResources = ({ aws, ecr, machine, swap }: SetupTarget): Resource[] => [
  ...(aws ? awsResources(aws) : []),
  ...(ecr ? repositories(ecr) : []),
  ...(machine ? [PROOF_NETWORK] : []),
  ...(swap ? swapping(swap) : []),
]

/** What `bake swap` sends, and the tag by which an instance that joins knows whom to ask. */
const swapping = ({ project, groups }: SetupSwap): Resource[] => [
  { kind: 'document', name: SWAP_DOCUMENT, settings: { content: swapDocument } },
  ...Object.entries(groups).map(
    ([stack, group]): Resource => ({ kind: 'group-tag', name: group, settings: { [TAG.swap]: swapParameter(project, stack) } }),
  ),
]

/** Where AMIs are proven: an instance there reaches nothing but its own metadata, not even a name server (docs/design.md §8). */
const PROOF_NETWORK: Resource = {
  kind: 'network',
  name: 'bake-proof',
  settings: { zones: PROOF_ZONES, routes: [], dns: false, traffic: 'none' },
}

function awsResources({ region, bucket, ledgerPrefix, queues, deadQueue }: SetupAws): Resource[] {
  const queue = (name: string, settings: Settings): Resource => ({
    kind: 'queue',
    name,
    settings: { ...settings, encrypted: true },
  })
  const times = { visibilitySeconds: VISIBILITY_SECONDS, longPollSeconds: LONG_POLL_SECONDS }
  const expiry = Object.fromEntries(Object.entries(EXPIRY_DAYS).map(([prefix, days]) => [`${ledgerPrefix}${prefix}`, days]))
  return [
    queue(deadQueue, { ...times, retentionSeconds: DEAD_RETENTION_SECONDS }),
    ...queues.map((name) =>
      queue(name, { ...times, retentionSeconds: RETENTION_SECONDS, redrive: { to: deadQueue, afterReceives: MAX_RECEIVES } }),
    ),
    { kind: 'bucket', name: bucket, settings: { region, encrypted: true, private: true, tlsOnly: true, expiryDays: expiry } },
  ]
}

function repositories({ images, cache }: SetupRepositories): Resource[] {
  return [
    ...images.map((name): Resource => {
      const settings = {
        tags: { mutability: 'IMMUTABLE_WITH_EXCLUSION', movable: MOVABLE_TAGS },
        scanOnPush: true,
        lifecycle: IMAGE_LIFECYCLE,
      }
      return { kind: 'repository', name, settings }
    }),
    // Caches are no images: a scan of one finds nothing to read.
    { kind: 'repository', name: cache, settings: { tags: { mutability: 'MUTABLE', movable: [] }, lifecycle: CACHE_LIFECYCLE } },
  ]
}

const expire = (rulePriority: number, description: string, tagStatus: 'untagged' | 'any', days: number) => ({
  rulePriority,
  description,
  selection: { tagStatus, countType: 'sinceImagePushed', countUnit: 'days', countNumber: days },
  action: { type: 'expire' },
})

/**
 * Never anything that has a tag, and what bake published always has one that doesn't move (`key-…`, `sha-…`): so no digest that a release, an AMI or a swap
 * names can go. The untagged manifests of an image for several platforms stay as long as their index does: what a manifest list references
 * can't expire before it does (https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html, "Lifecycle policy evaluation rules").
 */
const IMAGE_LIFECYCLE = { rules: [expire(1, 'bake: what no tag names', 'untagged', UNTAGGED_IMAGE_DAYS)] }

const CACHE_LIFECYCLE = {
  rules: [
    expire(1, 'bake: caches that were written anew', 'untagged', UNTAGGED_CACHE_DAYS),
    expire(2, 'bake: caches of branches at rest', 'any', IDLE_CACHE_DAYS),
  ],
}
