import { createHash, hash } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { TAG } from '../aws-tags.ts'
import { BakeError, messageOf } from '../errors.ts'
import { failpoint } from '../failpoint.ts'
import type { Ec2Tags } from '../io/ec2.ts'
import type { BakeRun, ImageReference, MachinePlan } from './machine.ts'

/** What an upload takes of EBS's direct APIs: https://docs.aws.amazon.com/ebs/latest/userguide/writesnapshots.html */
export interface SnapshotWriter {
  start(snapshot: { volumeBytes: number; description: string; tags: Ec2Tags; token: string }): Promise<string>
  /** `checksum`: SHA-256 of the data, base64. */
  putBlock(
    put: { snapshot: string; index: number; data: Buffer; checksum: string; progress: number },
    signal: AbortSignal,
  ): Promise<void>
  /** `checksum`: SHA-256 of the SHA-256 of each block that was put, in the order of their indexes; base64. */
  complete(snapshot: string, sum: { blocks: number; checksum: string }): Promise<void>
}

export interface StandInWorld {
  /** Writes images to a file, as `docker load` takes them. */
  save(path: string, images: ImageReference[], architecture: MachinePlan['architecture'], signal: AbortSignal): Promise<void>
  writer: SnapshotWriter
  snapshots: { waitCompleted(id: string, signal: AbortSignal): Promise<unknown>; remove(id: string): Promise<void> }
}

/** A snapshot to start an instance with. Disposed of it is deleted. */
export interface StandInVolume extends AsyncDisposable {
  snapshot: string
}

const BLOCK_BYTES = 512 * 1024
/** Each is half a megabyte in memory; a snapshot takes 1,000 in a second. */
const PUTS_AT_ONCE = 8
/** A snapshot may not be seen for a while after it was started. */
const PASSING = new Set(['ec2_throttled', 'ec2_unreachable', 'ebs_missing', 'ebs_busy'])
const TRIES = 8
const FIRST_PAUSE_MS = 200
const ZEROS = Buffer.alloc(BLOCK_BYTES)

/**
 * A snapshot whose first bytes are docker's archive of the stand-ins: an instance without a network gets them as a volume of its own. Throws what saving and EBS
 * throw (tool_missing, ec2_denied, …).
 */
export async function standInVolume(
  { standIns, architecture, project }: MachinePlan,
  { id: run, dir, signal, tell }: BakeRun,
  { save, writer, snapshots }: StandInWorld,
): Promise<StandInVolume> {
  const path = join(dir, 'stand-ins.tar')
  await save(path, standIns, architecture, signal)
  await using file = await open(path)
  const { size } = await file.stat()
  const names = standIns.map(({ image }) => image).join(', ')
  tell({ type: 'note', level: 'info', text: `uploading stand-ins: ${names} (${Math.ceil(size / 1e6)} MB)`, t: Date.now() })
  const snapshot = await writer.start({
    volumeBytes: size,
    description: `stand-ins of a proof of ${project}`,
    tags: { [TAG.project]: project, [TAG.run]: run, [TAG.role]: 'proof' },
    token: `${run}-stand-ins`,
  })
  await using undo = new AsyncDisposableStack()
  undo.defer(() =>
    snapshots.remove(snapshot).catch((error: unknown) => {
      const text = `${snapshot}, with the stand-ins of this proof, may still be there, which bake prune removes: ${messageOf(error)}`
      tell({ type: 'note', level: 'warning', text, t: Date.now() })
    }),
  )
  await failpoint('ami-aws-stand-ins')
  const digests = await putAll(file, size, snapshot, writer, signal)
  const sum = createHash('sha256')
  for (const digest of digests.values()) sum.update(Buffer.from(digest, 'base64'))
  await writer.complete(snapshot, { blocks: digests.size, checksum: sum.digest('base64') })
  await snapshots.waitCompleted(snapshot, signal)
  const made = undo.move()
  return { snapshot, [Symbol.asyncDispose]: () => made.disposeAsync() }
}

/** Digests of the blocks that were put, by index, ascending. What is zeros alone needs none. */
async function putAll(
  file: FileHandle,
  size: number,
  snapshot: string,
  writer: SnapshotWriter,
  signal: AbortSignal,
): Promise<Map<number, string>> {
  const count = Math.ceil(size / BLOCK_BYTES)
  const found: [number, string][] = []
  let next = 0
  const putSome = async () => {
    for (let index = next++; index < count; index = next++) {
      const data = Buffer.alloc(BLOCK_BYTES)
      await readAll(file, data, index * BLOCK_BYTES)
      if (data.equals(ZEROS)) continue
      const checksum = hash('sha256', data, 'base64')
      const progress = Math.floor((index / count) * 100)
      await patiently(() => writer.putBlock({ snapshot, index, data, checksum, progress }, signal), signal)
      found.push([index, checksum])
    }
  }
  await Promise.all(Array.from({ length: PUTS_AT_ONCE }, putSome))
  return new Map(found.sort(([a], [b]) => a - b))
}

async function readAll(file: FileHandle, data: Buffer, position: number): Promise<void> {
  for (let at = 0; at < data.length; ) {
    const { bytesRead } = await file.read(data, at, data.length - at, position + at)
    if (bytesRead === 0) return
    at += bytesRead
  }
}

async function patiently(put: () => Promise<void>, signal: AbortSignal): Promise<void> {
  for (let [tries, pauseMs] = [1, FIRST_PAUSE_MS]; ; tries++, pauseMs *= 2) {
    try {
      return await put()
    } catch (error) {
      signal.throwIfAborted()
      if (tries === TRIES || !(error instanceof BakeError && PASSING.has(error.code))) throw error
      await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal })
    }
  }
}
