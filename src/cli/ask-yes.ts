import { createInterface } from 'node:readline/promises'
import type { ReadStream, WriteStream } from 'node:tty'
import { refused } from '../errors.ts'
import { interrupted } from './signals.ts'

interface Terminal {
  input: Pick<ReadStream, 'isTTY'> & NodeJS.ReadableStream
  output: Pick<WriteStream, 'isTTY'> & NodeJS.WritableStream
  signal: AbortSignal
  /** --json: nobody is asked. */
  json: boolean
  /** The command that needs no answer. */
  otherwise: string
}

/**
 * Asks a question that only y or yes agrees to. Everything else, Ctrl-C and Ctrl-D throw `interrupted` (exit 130); where nobody can be asked,
 * `confirmation_needed` (exit 2).
 */
export async function askYes(question: string, { input, output, signal, json, otherwise }: Terminal): Promise<void> {
  if (json || !input.isTTY || !output.isTTY)
    throw refused('confirmation_needed', 'nothing was changed: there is no terminal to ask on', { next: otherwise })
  using prompt = createInterface({ input, output })
  const closed = new Promise<never>((_, reject) => prompt.once('close', () => reject(interrupted('nothing was changed'))))
  closed.catch(() => {})
  const answer = await Promise.race([prompt.question(`${question} [y/N] `, { signal }), closed])
  if (!/^y(?:es)?$/i.test(answer.trim())) throw interrupted('nothing was changed')
}
