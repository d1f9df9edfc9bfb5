import { z } from 'zod'
import { refused } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { Ledger } from '../io/ledger.ts'
import type { Manifest } from '../io/registry.ts'
import type { ImageJob } from '../jobs/job.ts'
import { type ImageDocument, imageDocumentSchema, read } from '../jobs/records.ts'
import { DIGEST_PATTERN, keys, tags } from '../names.ts'
import type { PublishedEntry } from './turn.ts'
import type { ImageWorld } from './world.ts'

const branchEntrySchema = z.object({
  version: z.literal(1),
  commit: z.string(),
  digest: z.string().regex(DIGEST_PATTERN),
  build: z.string(),
})
export type BranchEntry = z.infer<typeof branchEntrySchema> & { n: number }

/** `images/<key>`: a copy of the claim log's decision, written by whoever finds it missing or behind. */
export async function writeImageDocument(job: ImageJob, published: PublishedEntry, world: ImageWorld): Promise<void> {
  const known = await read(world.ledger, keys.image(job.key), imageDocumentSchema).catch(() => undefined)
  if (known && known.n >= published.n) return
  const document: ImageDocument = {
    version: 1,
    n: published.n,
    digest: published.digest,
    sizeBytes: published.sizeBytes,
    ...(published.claims.rebuiltBefore(published.n) ? { rebuilt: published.n } : {}),
  }
  await world.ledger.put(keys.image(job.key), document)
}

/** `sha-<commit>` (after a rebuild `sha-<commit>-r<n>`): set once, never moved; where it names the image of another key, `sha-<commit>-k<key>`. Its name. */
export async function tagCommit(job: ImageJob, published: PublishedEntry, world: ImageWorld): Promise<string> {
  const target = world.target(job.image)
  const plain = tags.commit(job.commit, published.claims.rebuiltBefore(published.n) ? published.n : undefined)
  for (const tag of [plain, tags.commitOfKey(job.commit, job.key)]) {
    const there = await world.registry.head({ ...target, tag })
    if (there?.digest === published.digest) return tag
    if (there) continue
    await world.registry.tag(target, tag, published.manifest)
    return tag
  }
  throw refused('tag_taken', `${target.host}/${target.path}:${plain} names another digest, and commit tags never move`, {
    next: 'it was pushed by hand or belongs to another ledger: delete that tag, or use another registry path',
    ids: { tag: plain, digest: published.digest },
  })
}

/**
 * Moves `branch-<branch>` forward: a commit is appended to the branch's log only if the branch's tip reaches it now and it is no ancestor
 * of the head entry; then the tag is put until the head that it was put for is still the head. `tip`: where the branch points now, with the commits up to it fetched.
 */
export async function moveBranch(
  job: ImageJob,
  published: PublishedEntry,
  world: ImageWorld,
  { tip }: { tip?: string },
): Promise<void> {
  if (job.branch === undefined) return
  const source = world.source(job.repository)
  if (tip === undefined || !(await source.objects.reaches(tip, job.commit))) return
  for (;;) {
    const head = await branchHead(world.ledger, job.image, job.branch)
    if (head && head.commit === job.commit && head.digest === published.digest) break
    if (head && head.commit !== job.commit && (await isAncestor(source, job.commit, head.commit))) break
    const next = keys.branch(job.image, job.branch, (head?.n ?? -1) + 1)
    if (
      await world.ledger.create(next, {
        version: 1,
        commit: job.commit,
        digest: published.digest,
        build: job.build,
        nonce: crypto.randomUUID(),
      })
    )
      break
  }
  await failpoint('branch-log')
  await putBranchTag(job.image, job.branch, published.manifest, world)
}

/** An ancestor that isn't here was left behind by a force-push: it is no obstacle. */
const isAncestor = (source: ReturnType<ImageWorld['source']>, ancestor: string, commit: string) =>
  source.objects.reaches(commit, ancestor).catch(() => false)

async function putBranchTag(image: string, branch: string, known: Manifest, world: ImageWorld): Promise<void> {
  const target = world.target(image)
  for (let put: string | undefined; ; ) {
    const head = await branchHead(world.ledger, image, branch)
    if (!head || head.digest === put) return
    const tag = tags.branch(branch)
    if ((await world.registry.head({ ...target, tag }))?.digest !== head.digest) {
      const manifest = head.digest === known.digest ? known : await world.registry.manifest({ ...target, digest: head.digest })
      // The head's manifest was deleted: its own key's next asker withdraws it.
      if (!manifest) return
      await world.registry.tag(target, tag, manifest)
    }
    put = head.digest
  }
}

/** The newest entry of a branch's log. */
export async function branchHead(ledger: Ledger, image: string, branch: string): Promise<BranchEntry | undefined> {
  const prefix = keys.branches(image, branch)
  const last = (await ledger.list(prefix)).at(-1)
  if (last === undefined) return undefined
  const document = await read(ledger, last, branchEntrySchema)
  return document && { ...document, n: Number(last.slice(prefix.length)) }
}
