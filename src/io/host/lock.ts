import { isSqlite } from './state-dir.ts'

const SQLITE_BUSY = 5

export interface Lock {
  release(): void
}

/**
 * Takes the lock `path` (a file made for it), or gives undefined when another process, or another part of this one, has it. It is an open EXCLUSIVE
 * transaction of SQLite, hence a lock of the operating system (fcntl) that ends with its process, however that ends. Never open the file yourself:
 * closing any descriptor of it in this process would let go of the lock.
 */
export async function tryLock(path: string): Promise<Lock | undefined> {
  const { DatabaseSync } = await import('node:sqlite')
  const database = new DatabaseSync(path, { timeout: 0 })
  try {
    database.exec('BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (isSqlite(error, SQLITE_BUSY)) return undefined
    throw error
  }
  return { release: () => database.close() }
}
