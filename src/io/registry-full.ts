/** Only after a failed push: it may take this long, and no longer. */
const TIMEOUT_MS = 2000

/**
 * Asks a registry on this machine whether it can begin an upload, and if not, whether that is for lack of space: docker-registry says 500 then, with the
 * errno of its disk (28, ENOSPC) in a body that BuildKit doesn't repeat. An upload that begins is given up again. Never throws; false for other hosts.
 */
export async function registryIsFull(reference: string): Promise<boolean> {
  const [, host, path] = /^((?:localhost|127\.0\.0\.1)(?::\d+)?)\/([^:@]+)/.exec(reference) ?? []
  if (host === undefined) return false
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS)
    const answer = await fetch(`http://${host}/v2/${path}/blobs/uploads/`, { method: 'POST', signal })
    const location = answer.headers.get('location')
    if (answer.ok && location) await fetch(new URL(location, `http://${host}`), { method: 'DELETE', signal })
    return answer.status === 507 || (answer.status >= 500 && /"Err":\s*28\b|no space left on device/.test(await answer.text()))
  } catch {
    return false
  }
}
