import type { MachineEvent } from '../events.ts'
import type { Ledger } from '../io/ledger.ts'
import type { SsmCommands } from '../io/ssm-commands.ts'

/** An instance of a stack. */
export interface StackInstance {
  id: string
  /** `pending`, `running`, … */
  state: string
  /** EC2's word: x86_64 or arm64. */
  architecture: string
  startedAt: number
}

/** What swapping images of a stack's instances touches. */
export interface SwapStackWorld {
  project: string
  stack: string
  ledger: Ledger
  /** Ids of those that there are now. Throws unknown_group (exit 2). */
  instances(): Promise<string[]>
  describe(instances: string[]): Promise<StackInstance[]>
  commands: Pick<SsmCommands, 'send' | 'invocations' | 'result' | 'online'>
  documents: { get(name: string): Promise<{ version: string; content: unknown } | undefined> }
  parameters: { put(name: string, value: string): Promise<void>; delete(name: string): Promise<void> }
  /** Beats while a swap goes on. */
  owner: string
  /** `user@machine` */
  by: string
  leaseMs: number
  pollMs: number
  signal: AbortSignal
  now(): number
  sleep(ms: number, signal: AbortSignal): Promise<void>
  tell(level: 'info' | 'warning', text: string): void
  /** What one instance does: a row of its own. */
  row(instance: string, event: MachineEvent): void
}
