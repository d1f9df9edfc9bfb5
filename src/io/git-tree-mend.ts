import { spawn } from 'node:child_process'
import { errnoOf, unavailable } from '../errors.ts'

/**
 * Repairs what git never looks at: modes of directories (BuildKit sends them, so they would differ between workers) become 0755, and sockets, FIFOs and
 * devices go. Costs one walk that stats directories only.
 */
export async function mendTree(dir: string, signal: AbortSignal): Promise<void> {
  // Five digits clear set-group-ID, which a directory inherits from the one above (GNU coreutils, "Directories and the Set-User-ID and Set-Group-ID Bits").
  const directories = ['-type', 'd', '!', '-perm', '0755', '-exec', 'chmod', '00755', '{}', ';']
  const others = ['!', '-type', 'd', '!', '-type', 'f', '!', '-type', 'l', '-exec', 'rm', '-f', '{}', ';']
  const child = spawn('find', [dir, '(', ...directories, '-o', ...others, ')'], { stdio: 'ignore', signal })
  try {
    await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT')
      throw unavailable('find_missing', 'find(1) is not installed', { next: 'apt-get install findutils' })
    signal.throwIfAborted()
    throw error
  }
}
