import { expect, test } from 'vitest'
import { takeVariables, variablesToHand } from '../../../src/io/host/handover.ts'

test('hands secrets and the agent over, and nothing else of the environment', () => {
  const env = {
    BAKE_SECRET_NPM_TOKEN: 'a',
    BAKE_SECRET_BLANK: ' \n',
    SSH_AUTH_SOCK: '/run/agent',
    BAKE_SECRETS_DIR: '../secrets',
    BAKE_STATE_DIR: '/state',
    BAKE_FAILPOINT: 'x:kill',
    PATH: '/bin',
  }
  expect(variablesToHand(env, '/work/shop')).toEqual({
    BAKE_SECRET_NPM_TOKEN: 'a',
    SSH_AUTH_SOCK: '/run/agent',
    BAKE_SECRETS_DIR: '/work/secrets',
  })
})

test('takes nothing else, whoever says it, and keeps what was not handed over', () => {
  const env = { PATH: '/bin', BAKE_SECRET_A: 'old', BAKE_SECRET_B: 'kept' }
  takeVariables({ BAKE_SECRET_A: 'new', PATH: '/evil', LD_PRELOAD: '/evil.so', BAKE_SECRET_C: 3, BAKE_SECRET_D: 'a\0b' }, env)
  for (const nothing of [undefined, null, 'text', 7]) takeVariables(nothing, env)
  expect(env).toEqual({ PATH: '/bin', BAKE_SECRET_A: 'new', BAKE_SECRET_B: 'kept' })
})
