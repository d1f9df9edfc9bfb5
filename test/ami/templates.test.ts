import { expect, test } from 'vitest'
import { openTemplates } from '../../src/ami/templates.ts'
import type { BakeError } from '../../src/errors.ts'

const open = (own: Record<string, string>) => openTemplates(new Map(Object.entries(own)), 'ops/templates')
const errorOf = async (work: () => Promise<unknown>): Promise<BakeError> => {
  const error = await work().then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  return error as BakeError
}

test('a template of one’s own takes the place of the one of the same path, and no other', async () => {
  const { render } = await open({ 'boot/wait-online.conf.hbs': 'mine\n' })
  expect(render('boot/wait-online.conf', {})).toBe('mine\n')
  expect(render('boot/bake-net.service', {})).toContain('[Unit]')
})

test('a partial can be replaced as well', async () => {
  const { render } = await open({ 'provision/common.sh.hbs': 'phase() { :; }\n' })
  expect(render('provision/clean.sh', {})).toContain('set -euo pipefail\nphase() { :; }\n')
})

test.each([
  ['boot/service.hbs', 'boot/service.service.hbs'],
  ['boot/bake-net.servise.hbs', 'boot/bake-net.service.hbs'],
  ['net.sh.hbs', 'boot/net.sh.hbs'],
  ['boot/net.sh', 'boot/net.sh.hbs'],
])('a file that takes no template’s place is refused: %s', async (path, meant) => {
  const error = await errorOf(() => open({ [path]: '' }))
  expect(error).toMatchObject({ code: 'template_unknown', exit: 2 })
  expect(error.message).toBe(`ops/templates/${path} takes the place of no template (did you mean ${meant}?)`)
})

test.each([
  ['a name that isn’t there', 'one\n{{nmae}}', 'ops/templates/boot/net.sh.hbs:2: there is no "nmae" here'],
  ['one in a helper', 'one\ntwo {{sh nmae}}', "ops/templates/boot/net.sh.hbs:2: {{sh}} is given a name that isn't there"],
  ['one in a condition', '{{#if nmae}}x{{/if}}', "ops/templates/boot/net.sh.hbs:1: {{if}} is given a name that isn't there"],
  ['a helper that isn’t there', '\n\n{{shell name}}', 'ops/templates/boot/net.sh.hbs:3: there is no "shell" here'],
  [
    'braces that aren’t closed',
    'a\nb\n{{#if name}\n',
    "ops/templates/boot/net.sh.hbs:3: braces that don't fit each other: ab{{#if name}",
  ],
  ['a block that isn’t closed', 'a\n{{#if name}}\n', 'ops/templates/boot/net.sh.hbs:3: braces that don’t fit'],
  ['another block’s end', 'a\n{{#if name}}\n{{/each}}', "ops/templates/boot/net.sh.hbs:2: if doesn't match each"],
  [
    'a partial that isn’t there',
    '{{> boot/nothing}}',
    'ops/templates/boot/net.sh.hbs: The partial boot/nothing could not be found',
  ],
])('%s is one clear error with its place', async (_, text, message) => {
  const { render } = await open({ 'boot/net.sh.hbs': text })
  const error = await errorOf(async () => render('boot/net.sh', { name: 'a' }))
  expect(error).toMatchObject({ code: 'template_invalid', exit: 2 })
  expect(error.message.replaceAll('’', "'")).toContain(message.replaceAll('’', "'"))
  expect(error.message).not.toContain('\n')
})

test('an error in a partial names the partial', async () => {
  const { render } = await open({ 'provision/common.sh.hbs': '\n{{nmae}}' })
  const error = await errorOf(async () => render('provision/clean.sh', {}))
  expect(error.message).toBe('ops/templates/provision/common.sh.hbs:2: there is no "nmae" here')
})

test('what stands in the data is no template, and no HTML', async () => {
  const { render } = await open({ 'boot/net.sh.hbs': '{{name}} {{#each list}}{{this}};{{/each}} \\{{.Format}}' })
  expect(render('boot/net.sh', { name: '{{x}} <&>', list: ["'", '{{/each}}'] })).toBe("{{x}} <&> ';{{/each}}; {{.Format}}")
})
