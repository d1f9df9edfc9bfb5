// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are what is tested
import { describe, expect, test } from 'vitest'
import { exec, hcl, packer, sh, unit } from '../../src/ami/quote.ts'
import { HOSTILE } from './plan.ts'
import { hasSystemd, readGo, readHcl, readSh, readUnit } from './read-back.ts'

const CONTROLS = ['\x01\x1f\x7f', '\r', 'a\rb', '\x1b[31m']
const DOLLARS = [
  '$',
  '%',
  '$$',
  '${',
  '%{',
  '$${',
  '$$${',
  '%%{',
  '$%{',
  '%${',
  '$ {',
  '${}',
  '$$$',
  'a$',
  '{$',
  '\\${x}',
  '\\\\${x}',
]
const ALL = [...HOSTILE, ...CONTROLS, ...DOLLARS]

test.each(['bash', 'sh'])('%s reads back what sh wrote', (shell) => {
  expect(readSh(ALL.map(sh).join(' '), shell)).toEqual(ALL)
})

test('HCL reads back what hcl wrote', () => {
  expect(ALL.map(hcl).map(readHcl)).toEqual(ALL)
})

test('templates of HCL are doubled where that says it, and numbered where it would say something else', () => {
  expect(hcl('${x} %{if}')).toBe('"$${x} %%{if}"')
  expect(hcl('$${x}')).toBe('"\\u0024\\u0024{x}"')
  expect(hcl('100% of $5')).toBe('"100% of $5"')
})

test('Go’s templates read back what packer wrote into HCL', () => {
  expect(ALL.map(packer).map(readHcl).map(readGo)).toEqual(ALL)
  expect(packer('{{user `x`}}')).toBe('"{{`{{`}}user `x`}}"')
})

describe.skipIf(!hasSystemd)('systemd, which has to be installed for this,', () => {
  test('reads back the arguments that exec wrote', () => {
    const text = `[Service]\nType=oneshot\nExecStart=/bin/echo ${exec(ALL)} $BAKE_RUN_ARGS ${exec('after')}\n`
    expect(readUnit('hostile.service', text).ExecStart).toEqual(['/bin/echo', ...ALL, '$BAKE_RUN_ARGS', 'after'])
  })
})

test('exec leaves words alone that mean nothing else', () => {
  expect(exec(['--env=A=b', 'registry:5000/a@sha256:0f', '/x_y.z,1+2'])).toBe('--env=A=b registry:5000/a@sha256:0f /x_y.z,1+2')
  expect(exec([])).toBe('')
  expect(unit('100% $HOME')).toBe('"100%% $HOME"')
  expect(exec('100% $HOME')).toBe('"100%% $$HOME"')
})

test('half a surrogate becomes a character that can be written, NUL is refused', () => {
  expect(sh('\ud800')).toBe("'\ufffd'")
  for (const quote of [sh, hcl, packer, unit, exec]) expect(() => quote('a\0b')).toThrow('NUL')
})
