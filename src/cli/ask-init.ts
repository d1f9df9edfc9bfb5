import { createInterface } from 'node:readline/promises'
import type { Readable, Writable } from 'node:stream'
import { BakeError, refused } from '../errors.ts'
import { checkProject, type InitPlan } from '../init.ts'
import { interrupted } from './signals.ts'

/** Asks for the project's name and for the images to take; Enter takes what is offered. Ctrl-C and Ctrl-D throw `interrupted` (exit 130). */
export async function askInit(
  plan: InitPlan,
  { input, output, signal }: { input: Readable; output: Writable; signal: AbortSignal },
): Promise<InitPlan> {
  using prompt = createInterface({ input, output })
  const closed = new Promise<never>((_, reject) => prompt.once('close', () => reject(interrupted('nothing was written'))))
  closed.catch(() => {})
  // Ctrl-D and Ctrl-C close the prompt, and its question is never answered.
  const ask = async (question: string) => (await Promise.race([prompt.question(question, { signal }), closed])).trim()
  const project = await again(output, async () =>
    checkProject((await ask(`Name of the project [${plan.project}]: `)) || plan.project),
  )
  if (plan.images.length === 1) return { ...plan, project }
  output.write(
    `Images in ${plan.source}:\n${plan.images.map(({ name, context }, at) => `  ${at + 1}  ${name}  (${context})\n`).join('')}`,
  )
  const images = await again(output, async () => choose(plan, await ask('Which ones, numbers or names [all]: ')))
  return { ...plan, project, images }
}

function choose(plan: InitPlan, answer: string): InitPlan['images'] {
  const words = answer.split(/[\s,]+/).filter((word) => word !== '')
  if (words.length === 0 || answer === 'all') return plan.images
  const wanted = words.map(
    (word) => plan.images.find(({ name }, at) => name === word || String(at + 1) === word) ?? unknown(word),
  )
  return plan.images.filter((image) => wanted.includes(image))
}

function unknown(word: string): never {
  throw refused('nothing_chosen', `there is no image ${word}`, {
    next: 'write numbers or names from the list, with blanks between them',
  })
}

/** A refused answer is told and asked for again. */
async function again<T>(output: Writable, question: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await question()
    } catch (error) {
      if (!(error instanceof BakeError) || error.exit !== 2) throw error
      output.write(`${error.message}\n`)
    }
  }
}
