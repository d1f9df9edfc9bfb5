import { fileURLToPath } from 'node:url'
import { type BakeOptions, runBake, startBake } from '../support/bake.ts'

/** A small CLI of test commands on the real base class and entry point (test/cli/fixture/commands.ts). */
export const FIXTURE = fileURLToPath(new URL('fixture/bake.ts', import.meta.url))

export const runFixture = (args: string[], options: BakeOptions = {}) => runBake(args, { entry: FIXTURE, ...options })
export const startFixture = (args: string[], options: BakeOptions = {}) => startBake(args, { entry: FIXTURE, ...options })
