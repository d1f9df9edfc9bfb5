import { createHash } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { serve } from '../serve.ts'
import { EbsReads, type EbsReply } from './ebs-reads.ts'
import { checkIndex, checkStart, EbsRefusal, invalid, isWhole, notFound, outcomeOf, type StartBody } from './ebs-rules.ts'
import { BLOCK, type EbsStore, type StoredSnapshot } from './ebs-store.ts'
import { Allowance, aggregated, type EbsCall, type EbsFault, ROUTES, scope } from './ebs-wire.ts'

/**
 * STAND-IN for the EBS direct APIs, written from https://docs.aws.amazon.com/ebs/latest/APIReference/ and .../ebs/latest/userguide/ebs-accessing-snapshot.html, because moto's ignore
 * parents, encryption, checksums, tokens and states. It makes each snapshot in moto too, so that EC2 (ec2-snapshots.ts) knows it. A call that isn't in the document is
 * refused and fails the test at the end.
 */
export interface EbsDirect extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`, for AWS_ENDPOINT_URL_EBS. */
  readonly endpoint: string
  /** Actions that nobody may use. */
  readonly denied: Set<string>
  /** Asked of each call, in order; undefined: carried out. */
  fault: (call: EbsCall) => EbsFault | undefined
  /** Puts that the account may make in a second; more are refused (RequestThrottledException). */
  putsPerSecond: number
  readonly calls: Record<string, number>
}

interface Sent {
  call: EbsCall
  headers: IncomingHttpHeaders
  query: URLSearchParams
  body: Buffer
  fault: EbsFault | undefined
}

export async function startEbsDirect(moto: string, store: EbsStore): Promise<EbsDirect> {
  const unknown = new Set<string>()
  const started = new Map<string, { body: string; reply: EbsReply }>()
  const reads = new EbsReads(store)
  const busy = new Set<string>()
  const ebs = {
    denied: new Set<string>(),
    fault: (() => undefined) as EbsDirect['fault'],
    putsPerSecond: Number.POSITIVE_INFINITY,
    calls: {} as Record<string, number>,
  }
  const allowance = new Allowance()

  async function answer(sent: Sent): Promise<EbsReply> {
    const { call, query } = sent
    switch (call.action) {
      case 'StartSnapshot':
        return start(sent)
      case 'PutSnapshotBlock':
        return put(sent)
      case 'CompleteSnapshot':
        return complete(sent)
      case 'ListSnapshotBlocks':
        return reads.snapshotBlocks(await snapshotOf(call, call.snapshot), query)
      case 'ListChangedBlocks': {
        const first = await snapshotOf(call, query.get('firstSnapshotId') ?? '')
        return reads.changedBlocks(first, await snapshotOf(call, call.snapshot), query)
      }
      case 'GetSnapshotBlock': {
        const snapshot = await snapshotOf(call, call.snapshot)
        checkIndex(snapshot, call.index)
        return reads.block(snapshot, call.index, query)
      }
    }
  }

  /** One that the caller may touch. */
  async function snapshotOf({ region }: EbsCall, id: string): Promise<StoredSnapshot> {
    const snapshot = store.get(region, id) ?? (await adopt(region, id))
    if (snapshot === undefined || store.now() < snapshot.visibleAt) throw notFound(id)
    // "EBS direct APIs does not support public snapshots": those of others that tests have are public.
    if (snapshot.ownerId !== store.account)
      throw new EbsRefusal('AccessDeniedException', `You may not use ${id}`, 'UNAUTHORIZED_ACCOUNT')
    return snapshot
  }

  /** One that EC2 made: of an image or a volume. Nothing is known of its content. */
  async function adopt(region: string, id: string): Promise<StoredSnapshot | undefined> {
    const form = new URLSearchParams({ Action: 'DescribeSnapshots', Version: '2016-11-15', 'SnapshotId.1': id })
    const headers = { authorization: scope(region, 'ec2'), 'content-type': 'application/x-www-form-urlencoded' }
    const response = await fetch(moto, { method: 'POST', headers, body: form.toString() })
    const xml = await response.text()
    if (response.status !== 200) return undefined
    const [ownerId, volumeGib] = ['ownerId', 'volumeSize'].map((name) => new RegExp(`<${name}>([^<]*)<`).exec(xml)?.[1])
    return store.add({ region, id, ownerId: ownerId!, volumeGib: Number(volumeGib) })
  }

  async function start({ call, body }: Sent): Promise<EbsReply> {
    const { region } = call
    const asked = JSON.parse(body.toString()) as StartBody
    checkStart(asked)
    const key = `${region} ${asked.ClientToken}`
    const earlier = asked.ClientToken === undefined ? undefined : started.get(key)
    if (earlier !== undefined) {
      if (earlier.body === body.toString()) return earlier.reply
      throw new EbsRefusal('ConflictException', 'The client token was used with other parameters')
    }
    const parent = asked.ParentSnapshotId === undefined ? undefined : await snapshotOf(call, asked.ParentSnapshotId)
    const { encrypted, kmsKey } = outcomeOf(asked, parent, region, store)
    const id = await makeInMoto(region, asked)
    const [startedAt, volumeGib] = [store.now(), asked.VolumeSize]
    store.add({
      ...{ region, id, volumeGib, state: 'pending', encrypted, startedAt, touchedAt: startedAt },
      ...(kmsKey !== undefined && { kmsKey }),
      ...(parent !== undefined && { parent: parent.id }),
      lineage: [...(parent?.lineage ?? []), id],
      blocks: new Map(parent?.blocks),
      timeoutMs: (asked.Timeout ?? 60) * 60_000,
      visibleAt: startedAt + store.visibleAfterMs,
    })
    const reply = {
      status: 201,
      body: {
        ...{ SnapshotId: id, OwnerId: store.account, Status: 'pending', StartTime: startedAt / 1000, VolumeSize: volumeGib },
        ...{ BlockSize: BLOCK, Tags: asked.Tags, ParentSnapshotId: asked.ParentSnapshotId, KmsKeyArn: kmsKey },
      },
    }
    if (asked.ClientToken !== undefined) started.set(key, { body: body.toString(), reply })
    return reply
  }

  async function makeInMoto(region: string, { VolumeSize, Tags, Description }: StartBody): Promise<string> {
    const headers = { authorization: scope(region, 'ebs'), 'content-type': 'application/json' }
    const body = JSON.stringify({ VolumeSize, Tags, Description })
    const response = await fetch(`${moto}/snapshots`, { method: 'POST', headers, body })
    return ((await response.json()) as { SnapshotId: string }).SnapshotId
  }

  async function put({ call, headers, body, fault }: Sent): Promise<EbsReply> {
    allowance.take(ebs.putsPerSecond)
    const snapshot = await snapshotOf(call, call.snapshot)
    if (snapshot.state !== 'pending') throw invalid(`${snapshot.id} is ${snapshot.state}`, 'INVALID_SNAPSHOT_ID')
    checkIndex(snapshot, call.index)
    if (headers['x-amz-data-length'] !== String(BLOCK) || body.length !== BLOCK)
      throw invalid(`x-amz-Data-Length ${headers['x-amz-data-length']}, ${body.length} bytes`, 'INVALID_BLOCK')
    const progress = headers['x-amz-progress']
    if (progress !== undefined && !isWhole(Number(progress), 0, 100)) throw invalid(`x-amz-Progress ${progress}`)
    if (headers['x-amz-checksum-algorithm'] !== 'SHA256') throw invalid('x-amz-Checksum-Algorithm')
    // "The checksum that you provide is part of the Signature Version 4 signing process."
    if (!/SignedHeaders=[^,]*\bx-amz-checksum\b(?!-)/.test(headers.authorization ?? ''))
      throw invalid('x-amz-Checksum is not signed')
    if (headers['x-amz-checksum'] !== createHash('sha256').update(body).digest('base64'))
      throw invalid('The checksum is not that of the data', 'INVALID_BLOCK')
    const at = `${call.region} ${call.snapshot} ${call.index}`
    if (busy.has(at)) throw invalid(`block ${call.index} is being written`, 'CONFLICTING_BLOCK_UPDATE')
    busy.add(at)
    try {
      snapshot.touchedAt = store.now()
      if (fault !== 'forgotten') {
        const hash = await store.keep(body)
        snapshot.written.set(call.index, hash)
        snapshot.blocks.set(call.index, hash)
      }
    } finally {
      busy.delete(at)
    }
    return {
      status: 201,
      headers: { 'x-amz-checksum': headers['x-amz-checksum'], 'x-amz-checksum-algorithm': 'SHA256' },
      body: {},
    }
  }

  async function complete({ call, headers }: Sent): Promise<EbsReply> {
    const snapshot = await snapshotOf(call, call.snapshot)
    if (snapshot.state === 'completed') return { status: 202, body: { Status: 'completed' } }
    if (snapshot.state !== 'pending') throw invalid(`${snapshot.id} is ${snapshot.state}`, 'INVALID_SNAPSHOT_ID')
    const [count, checksum] = [headers['x-amz-changedblockscount'], headers['x-amz-checksum']]
    if (count === undefined || !isWhole(Number(count), 0, 2 ** 31)) throw invalid('x-amz-ChangedBlocksCount')
    if (
      checksum !== undefined &&
      (headers['x-amz-checksum-algorithm'] !== 'SHA256' || headers['x-amz-checksum-aggregation-method'] !== 'LINEAR')
    )
      throw invalid('x-amz-Checksum needs its algorithm and aggregation method')
    const faults: string[] = []
    if (Number(count) !== snapshot.written.size) faults.push(`${snapshot.written.size} blocks were written, not ${count}`)
    if (checksum !== undefined && checksum !== aggregated(snapshot.written)) faults.push('the checksum is another one')
    if (faults.length > 0 && !store.lateVerdict) throw invalid(faults.join('; '), 'INVALID_BLOCK')
    void sleep(store.completeAfterMs).then(() => {
      snapshot.state = faults.length > 0 ? 'error' : 'completed'
      if (faults.length > 0) snapshot.stateMessage = faults.join('; ')
    })
    // Nothing more can be written to it.
    snapshot.timeoutMs = Number.POSITIVE_INFINITY
    return { status: 202, body: { Status: 'pending' } }
  }

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'http://ebs')
    const body = await buffer(request)
    const route = ROUTES.find(([, method, path]) => method === request.method && path.test(url.pathname))
    if (route === undefined) {
      unknown.add(`${request.method} ${url.pathname}`)
      return void response.writeHead(404).end()
    }
    const [, snapshot = '', index = '0'] = route[2].exec(url.pathname) ?? []
    const region = /Credential=[^/]*\/\d+\/([^/]+)\//.exec(request.headers.authorization ?? '')?.[1] ?? 'us-east-1'
    const call: EbsCall = { action: route[0], region, snapshot, index: Number(index) }
    ebs.calls[call.action] = (ebs.calls[call.action] ?? 0) + 1
    const fault = ebs.fault(call)
    if (fault === 'reset') return void request.socket.resetAndDestroy()
    const reply = await carryOut({ call, headers: request.headers, query: url.searchParams, body, fault })
    if (fault === 'late') return void request.socket.resetAndDestroy()
    const sent = Buffer.isBuffer(reply.body) ? reply.body : Buffer.from(JSON.stringify(reply.body ?? {}))
    const type = Buffer.isBuffer(reply.body) ? 'application/octet-stream' : 'application/json'
    response.writeHead(reply.status, { 'content-type': type, ...reply.headers }).end(sent)
  }

  async function carryOut(sent: Sent): Promise<EbsReply> {
    const {
      call: { action },
      fault,
    } = sent
    try {
      if (ebs.denied.has(action)) throw new EbsRefusal('AccessDeniedException', `not authorized to perform: ebs:${action}`)
      if (fault !== undefined && fault !== 'late' && fault !== 'forgotten' && fault !== 'reset')
        throw new EbsRefusal(fault, 'the stand-in was told to refuse it')
      return await answer(sent)
    } catch (error) {
      if (!(error instanceof EbsRefusal)) throw error
      const { status, code, message, reason } = error
      return { status, headers: { 'x-amzn-errortype': code }, body: { Message: message, ...(reason && { Reason: reason }) } }
    }
  }

  const server = createServer((request, response) => {
    respond(request, response).catch((error: unknown) => {
      // Who hung up may have taken the emulator along.
      if (!request.socket.destroyed) unknown.add(`${request.method} ${request.url}: ${error}`)
      response.destroy()
    })
  })
  const { endpoint, close } = await serve(server)
  return Object.assign(ebs, {
    endpoint,
    async [Symbol.asyncDispose]() {
      await close()
      if (unknown.size > 0) throw new Error(`calls that the stand-in for EBS doesn't know: ${[...unknown].join(', ')}`)
    },
  })
}
