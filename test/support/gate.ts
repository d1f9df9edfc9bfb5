import { createServer, type ServerResponse } from 'node:http'
import { waitFor } from '../../src/wait.ts'
import { serve } from './serve.ts'

export interface Gate extends AsyncDisposable {
  /** A Dockerfile whose build stands still until the gate is open: it ADDs what this server doesn't answer before. No base image, so it is fast. */
  readonly dockerfile: string
  /** Resolves when a build stands before the gate now. */
  entered(): Promise<void>
  /** Builds that stand before the gate now. */
  waiting(): number
  open(): void
}

/** Holds builds at a step for as long as a test wants, without sleeping. The engine reaches loopback. */
export async function startGate(): Promise<Gate> {
  const held = new Set<ServerResponse>()
  let opened = false
  const server = createServer((_, response) => {
    if (opened) return response.end('open')
    held.add(response)
    response.once('close', () => held.delete(response))
  })
  const { endpoint, close } = await serve(server)
  const open = () => {
    opened = true
    for (const response of held) response.end('open')
  }
  return {
    dockerfile: `FROM scratch\nADD ${endpoint}/${crypto.randomUUID()} /gate\nCOPY server.js /\n`,
    entered: async () => {
      await waitFor(() => held.size > 0 || undefined, { what: 'a build at the gate', deadlineMs: 20_000, intervalMs: 10 })
    },
    waiting: () => held.size,
    open,
    async [Symbol.asyncDispose]() {
      open()
      await close()
    },
  }
}
