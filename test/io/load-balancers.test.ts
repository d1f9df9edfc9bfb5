import { afterEach, beforeEach, expect, test } from 'vitest'
import { LoadBalancers } from '../../src/io/load-balancers.ts'
import { startBalancers, type TestBalancers } from '../support/aws-gaps/full-balancers.ts'
import { Environment } from '../support/environment.ts'

let standIn: TestBalancers
let environment: Environment
beforeEach(async () => {
  standIn = await startBalancers()
  environment = new Environment()
  environment.set('AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2', standIn.endpoint)
})
afterEach(async () => {
  environment[Symbol.dispose]()
  await standIn[Symbol.asyncDispose]()
})

test('AWS takes all or none: one that it does not know keeps no others from being registered, and its words are told', async () => {
  await using balancers = new LoadBalancers('us-east-1')
  const arn = standIn.make('web')
  standIn.lag = 9
  standIn.launched('i-2')
  expect(await balancers.register(arn, ['i-1', 'i-2', 'i-3'])).toMatch(/not in a running state .*'i-2'/)
  expect(standIn.states(arn)).toEqual({ initial: ['i-1', 'i-3'] })
  expect(await balancers.register(arn, ['i-1', 'i-3'])).toBeUndefined()
})
