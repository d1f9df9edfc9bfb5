import { PassThrough } from 'node:stream'
import { expect, it } from 'vitest'
import { askInit } from '../../src/cli/ask-init.ts'
import type { InitPlan } from '../../src/init.ts'

const plan: InitPlan = {
  file: '/x/bake.yaml',
  project: 'shop',
  force: false,
  source: 'compose.yaml',
  images: ['web', 'api', 'jobs'].map((name) => ({ name, context: name })),
  leftOut: [],
  notes: [],
}

/** Answers each question when it is there. */
async function ask(answers: string[], signal = new AbortController().signal) {
  const input = new PassThrough()
  const output = new PassThrough()
  let told = ''
  output.on('data', (chunk) => {
    told += chunk
    if (!/\]: $/.test(told)) return
    told += '\n'
    const answer = answers.shift()
    if (answer === undefined) input.end()
    else input.write(`${answer}\n`)
  })
  const result = await askInit(plan, { input, output, signal })
  return { project: result.project, images: result.images.map(({ name }) => name), told }
}

it('takes what is offered on Enter', async () => {
  expect(await ask(['', ''])).toMatchObject({ project: 'shop', images: ['web', 'api', 'jobs'] })
})

it('takes a name, and images by number and name in the order of the file', async () => {
  expect(await ask(['store', 'jobs, 1'])).toMatchObject({ project: 'store', images: ['web', 'jobs'] })
})

it('asks again after an answer that is no name', async () => {
  const { project, images, told } = await ask(['No Name', 'name', '4', '2'])
  expect({ project, images }).toEqual({ project: 'name', images: ['api'] })
  expect(told).toContain('"No Name" can\'t be a project\'s name')
  expect(told).toContain('there is no image 4')
})

it('ends with 130 when its input ends', async () => {
  await expect(ask(['store'])).rejects.toMatchObject({ exit: 130 })
})
