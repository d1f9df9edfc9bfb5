import { spawn } from 'node:child_process'
import { errnoOf, unavailable } from '../errors.ts'

/**
 * Repairs what git doesn't look at: directories get mode 0755 (BuildKit sends modes, so they must not differ between workers); files whose mode isn't one
 * that git writes, sockets, FIFOs, devices and whatever is called `.git` go. A chmod within the second of the checkout is invisible to git: it compares
 * times in whole seconds (Makefile, USE_NSEC). Costs one walk.
 */
export async function mendTree(dir: string, signal: AbortSignal): Promise<void> {
  const git = ['-name', '.git', '-exec', 'rm', '-rf', '{}', ';', '-prune']
  // Five digits clear set-group-ID, which a directory inherits from the one above (GNU coreutils, "Directories and the Set-User-ID and Set-Group-ID Bits").
  const directories = ['-type', 'd', '!', '-perm', '0755', '-exec', 'chmod', '00755', '{}', ';']
  const files = ['-type', 'f', '!', '-perm', '0644', '!', '-perm', '0755', '-exec', 'rm', '-f', '{}', ';']
  const others = ['!', '-type', 'd', '!', '-type', 'f', '!', '-type', 'l', '-exec', 'rm', '-f', '{}', ';']
  const args = [dir, '(', ...git, '-o', ...directories, '-o', ...files, '-o', ...others, ')']
  const child = spawn('find', args, { stdio: 'ignore', signal })
  try {
    await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT')
      throw unavailable('find_missing', 'find(1) is not installed', { next: 'apt-get install findutils' })
    signal.throwIfAborted()
    throw error
  }
}
