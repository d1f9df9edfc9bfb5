import { readFile } from 'node:fs/promises'
import { pushImage } from './registry-push.ts'

/** Serves `/www/content` at port 3000 and ends when it is asked to. */
const SERVES = 'busybox httpd -p 3000 -h /www\n'

/**
 * Pushes an image that runs a line of busybox's sh (2 MB, made without an engine) and then waits: its digest. Each word of `content` makes another one.
 * `line`: `exit 7` for one that ends, `:` for one that is never healthy.
 */
export async function pushService(registry: string, path: string, content: string, line = SERVES): Promise<string> {
  const script = `trap 'exit 0' TERM\n${line}\nwhile :; do busybox sleep 1000 & wait $!; done\n`
  return pushImage(registry, path, '1', {
    content,
    files: {
      'bin/busybox': { content: await readFile('/bin/busybox'), mode: 0o755 },
      'www/content': { content },
      'start.sh': { content: script },
    },
    config: { Cmd: ['busybox', 'sh', '/start.sh'], Env: ['PATH=/bin'] },
  })
}
