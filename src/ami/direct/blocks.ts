/** Size of an EBS snapshot's blocks (EBS direct APIs). */
export const BLOCK_BYTES = 512 * 1024

/** What a bake changed of a disk, by blocks; what is read past the disk's end is zeros. */
export interface ChangedBlocks {
  /** Of the whole disk. */
  diskBytes: number
  /** Block indexes, ascending, whose content differs from the parent's. */
  indexes: readonly number[]
  /** Exactly BLOCK_BYTES. */
  read(index: number): Promise<Buffer>
}
