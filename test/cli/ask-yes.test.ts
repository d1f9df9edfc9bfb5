import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { askYes } from '../../src/cli/ask-yes.ts'

const terminal = (answer: string | undefined, isTTY = true, json = false) => {
  const input = Object.assign(new PassThrough(), { isTTY })
  const output = Object.assign(new PassThrough(), { isTTY })
  if (answer === undefined) input.end()
  else input.write(answer)
  return { input, output, json, signal: new AbortController().signal, otherwise: 'bake setup --yes' }
}

test.each(['y\n', 'Yes\n', ' y \n'])('%j agrees', async (answer) => {
  await askYes('Go on?', terminal(answer))
})

test.each(['\n', 'n\n', 'yess\n', undefined])('%j does not', async (answer) => {
  await expect(askYes('Go on?', terminal(answer))).rejects.toMatchObject({ code: 'interrupted', exit: 130 })
})

test('where nobody can be asked, the command that needs no answer is named', async () => {
  const refused = { code: 'confirmation_needed', exit: 2, next: 'bake setup --yes' }
  await expect(askYes('Go on?', terminal('y\n', false))).rejects.toMatchObject(refused)
  await expect(askYes('Go on?', terminal('y\n', true, true))).rejects.toMatchObject(refused)
})
