import { chmod, mkdir, open, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, messageOf, unavailable } from '../../errors.ts'

/** Every file of the host in a state directory. */
export const hostFiles = (stateDir: string) => ({
  dir: stateDir,
  lock: join(stateDir, 'host.lock'),
  info: join(stateDir, 'host.json'),
  error: join(stateDir, 'host-error.json'),
  log: join(stateDir, 'host.log'),
  ports: join(stateDir, 'ports.json'),
  queueDir: join(stateDir, 'queue'),
  registryDir: join(stateDir, 'registry'),
  registryConfig: join(stateDir, 'registry.yml'),
  registryLog: join(stateDir, 'registry.log'),
})
export type HostFiles = ReturnType<typeof hostFiles>

/** Creates the state directory, for its owner only and ignored by git by itself. Throws disk_full or state_dir_denied. */
export async function prepareStateDir(stateDir: string): Promise<HostFiles> {
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o700 })
    await chmod(stateDir, 0o700)
    await writeFile(join(stateDir, '.gitignore'), '*\n', { flag: 'wx' }).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error
    })
  } catch (error) {
    throw stateDirError(error, stateDir)
  }
  return hostFiles(stateDir)
}

/** Replaces `path` in one step, so that no reader sees half of it. */
export async function writeAtomic(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}`
  try {
    const file = await open(temporary, 'w', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

const FULL = new Set(['ENOSPC', 'EDQUOT'])
const DENIED = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST'])

/** A file system or SQLite error in the state directory as a BakeError; anything else unchanged. */
export function stateDirError(error: unknown, stateDir: string): unknown {
  const code = errnoOf(error) ?? ''
  const details = { ids: { state_dir: stateDir }, cause: error }
  if (FULL.has(code) || isSqlite(error, SQLITE_FULL))
    return unavailable('disk_full', `no space left for ${stateDir}`, {
      ...details,
      next: 'Free some disk space, or set BAKE_STATE_DIR to a directory on a larger disk.',
    })
  if (DENIED.has(code) || isSqlite(error, SQLITE_CANTOPEN) || isSqlite(error, SQLITE_READONLY))
    return unavailable('state_dir_denied', `can't write to the state directory ${stateDir}: ${messageOf(error)}`, {
      ...details,
      next: 'Make it writable, or set BAKE_STATE_DIR to a directory that is.',
    })
  return error
}

/** Primary result codes: https://www.sqlite.org/rescode.html */
const SQLITE_READONLY = 8
export const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14

export const isSqlite = (error: unknown, primaryCode: number): boolean =>
  error instanceof Error && 'errcode' in error && (Number(error.errcode) & 0xff) === primaryCode
