import { readFileSync } from 'node:fs'

/**
 * Loaded with `--import`: a process whose clock is wrong by the milliseconds that the file BAKE_TEST_CLOCK says, now and whenever it changes. Files keep
 * the true time, as on a file system that another machine serves; timers are monotonic, as they are when a clock is set.
 */
const file = process.env.BAKE_TEST_CLOCK
const LOOK_MS = 50
const True = Date
let offsetMs = 0
let lookedAt = Number.NEGATIVE_INFINITY

function now(): number {
  if (file !== undefined && performance.now() - lookedAt > LOOK_MS) {
    lookedAt = performance.now()
    offsetMs = Number(readFileSync(file, 'utf8')) || 0
  }
  return True.now() + offsetMs
}

globalThis.Date = new Proxy(True, {
  construct: (_, given: [], target) => Reflect.construct(True, given.length > 0 ? given : [now()], target),
  apply: () => new True(now()).toString(),
  get: (target, name) => (name === 'now' ? now : Reflect.get(target, name)),
})
