import { once } from 'node:events'
import { request } from 'node:http'

/** Takes a name away from an image of this machine's engine; the image goes with its last name. */
export async function removeImage(reference: string): Promise<void> {
  const path = `/images/${encodeURIComponent(reference)}?force=1`
  const call = request({ socketPath: '/var/run/docker.sock', method: 'DELETE', path, agent: false }).end()
  const [answer] = await once(call, 'response')
  answer.resume()
  if (answer.statusCode !== 200) throw new Error(`removing ${reference}: ${answer.statusCode}`)
}
