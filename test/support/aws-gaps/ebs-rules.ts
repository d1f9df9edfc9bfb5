import { BLOCKS_PER_GIB, type EbsStore, type StoredSnapshot } from './ebs-store.ts'

/** An error as the API has them: https://docs.aws.amazon.com/ebs/latest/APIReference/CommonErrors.html and each action's own. */
export class EbsRefusal extends Error {
  readonly code: keyof typeof STATUS
  readonly reason: string | undefined

  constructor(code: keyof typeof STATUS, message: string, reason?: string) {
    super(message)
    this.code = code
    this.reason = reason
  }

  get status(): number {
    return STATUS[this.code]
  }
}

const STATUS = {
  AccessDeniedException: 403,
  ConcurrentLimitExceededException: 400,
  ConflictException: 503,
  InternalServerException: 500,
  RequestThrottledException: 400,
  ResourceNotFoundException: 404,
  ServiceQuotaExceededException: 402,
  ValidationException: 400,
} as const

export const invalid = (message: string, reason = 'INVALID_PARAMETER_VALUE') =>
  new EbsRefusal('ValidationException', message, reason)
export const notFound = (id: string) =>
  new EbsRefusal('ResourceNotFoundException', `The snapshot '${id}' does not exist.`, 'SNAPSHOT_NOT_FOUND')

/** Body of StartSnapshot. */
export interface StartBody {
  VolumeSize?: number
  ParentSnapshotId?: string
  Encrypted?: boolean
  KmsKeyArn?: string
  Description?: string
  ClientToken?: string
  Timeout?: number
  Tags?: { Key: string; Value: string }[]
}

const KNOWN = ['VolumeSize', 'ParentSnapshotId', 'Encrypted', 'KmsKeyArn', 'Description', 'ClientToken', 'Timeout', 'Tags']
const MAX_GIB = 65_536

/** https://docs.aws.amazon.com/ebs/latest/APIReference/API_StartSnapshot.html, "Request Body". */
export function checkStart(body: StartBody): asserts body is StartBody & { VolumeSize: number } {
  const { VolumeSize, Timeout, ClientToken, Description, Tags } = body
  const unknown = Object.keys(body).filter((name) => !KNOWN.includes(name))
  if (unknown.length > 0) throw invalid(`unknown parameters: ${unknown.join(', ')}`)
  if (!isWhole(VolumeSize, 1, MAX_GIB)) throw invalid(`VolumeSize ${VolumeSize}`, 'INVALID_VOLUME_SIZE')
  if (Timeout !== undefined && !isWhole(Timeout, 10, 4320)) throw invalid(`Timeout ${Timeout}`)
  if (ClientToken !== undefined && !/^[\x20-\x7e]{1,255}$/.test(ClientToken)) throw invalid(`ClientToken ${ClientToken}`)
  if (Description !== undefined && Description.length > 255) throw invalid('Description')
  if (Tags !== undefined && (Tags.length > 50 || Tags.some(({ Key }) => !Key || Key.length > 127)))
    throw invalid('Tags', 'INVALID_TAG')
}

/** What the new snapshot has from its parent, and how it is encrypted: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapis-using-encryption.html */
export function outcomeOf(
  body: StartBody & { VolumeSize: number },
  parent: StoredSnapshot | undefined,
  region: string,
  store: EbsStore,
): Pick<StoredSnapshot, 'encrypted' | 'kmsKey'> {
  const { Encrypted, KmsKeyArn, VolumeSize } = body
  const byDefault = store.encryptedByDefault.has(region)
  if (parent !== undefined) {
    if (Encrypted !== undefined) throw invalid('ParentSnapshotId and Encrypted exclude each other')
    if (KmsKeyArn !== undefined) throw invalid('KmsKeyArn needs a snapshot without a parent')
    if (parent.ownerId !== store.account)
      throw new EbsRefusal('AccessDeniedException', 'The parent is of another account', 'UNAUTHORIZED_ACCOUNT')
    if (parent.state !== 'completed') throw invalid(`The parent ${parent.id} is ${parent.state}`, 'INVALID_SNAPSHOT_ID')
    if (VolumeSize < parent.volumeGib) throw invalid('The volume is smaller than its parent', 'INVALID_VOLUME_SIZE')
    if (byDefault && !parent.encrypted) throw invalid('Encryption by default is on and the parent is unencrypted')
    return { encrypted: parent.encrypted, ...(parent.kmsKey !== undefined && { kmsKey: parent.kmsKey }) }
  }
  if (KmsKeyArn !== undefined && Encrypted !== true) throw invalid('KmsKeyArn needs Encrypted')
  if (KmsKeyArn !== undefined && !store.kmsKeys.has(KmsKeyArn))
    throw new EbsRefusal('AccessDeniedException', `The key ${KmsKeyArn} can't be used`, 'DEPENDENCY_ACCESS_DENIED')
  return Encrypted === true || byDefault
    ? { encrypted: true, kmsKey: KmsKeyArn ?? store.defaultKey(region) }
    : { encrypted: false }
}

export function checkIndex({ volumeGib }: StoredSnapshot, index: number): void {
  if (!isWhole(index, 0, volumeGib * BLOCKS_PER_GIB - 1)) throw invalid(`block index ${index}`, 'INVALID_BLOCK')
}

export const isWhole = (value: unknown, least: number, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most
