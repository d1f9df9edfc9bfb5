import type { Ledger } from '../io/ledger.ts'
import { keys } from '../names.ts'
import { neededVersions } from './rollback.ts'

/** Launch template versions that stacks run or go back to: `<template's id> <number>`. Throws ledger_damaged (exit 4). */
export async function deliveredVersions(ledger: Ledger): Promise<Set<string>> {
  const stacks = new Set((await ledger.list(keys.allDeployments)).map((key) => key.split('/')[1]!))
  const needed = await Promise.all([...stacks].map((stack) => neededVersions(ledger, stack)))
  return new Set(needed.flat())
}
