import type { Ledger } from '../io/ledger.ts'
import type { ImageJob } from '../jobs/job.ts'
import { type LatestDocument, latestDocumentSchema, read } from '../jobs/records.ts'
import { keys } from '../names.ts'
import type { PublishedEntry } from './turn.ts'
import type { ImageWorld } from './world.ts'

/** `latest/<image>`: what workers warm their caches with. By whoever published; one that died before is made good by the next. */
export async function writeLatest(job: ImageJob, { digest }: PublishedEntry, world: ImageWorld): Promise<void> {
  const document: LatestDocument = { version: 1, build: job.build, at: Date.now(), digest, job }
  await world.ledger.put(keys.latest(job.image), document)
}

/** The newest publication of each image, newest first; documents that can't be read are passed over. */
export async function listLatest(ledger: Ledger): Promise<LatestDocument[]> {
  const names = await ledger.list(keys.latests)
  const documents = await Promise.all(names.map((name) => read(ledger, name, latestDocumentSchema).catch(() => undefined)))
  return documents.filter((document) => document !== undefined).sort((a, b) => b.at - a.at)
}
