import { z } from 'zod'
import type { Ledger } from '../io/ledger.ts'
import { read } from '../jobs/records.ts'
import { COMMIT_PATTERN, DIGEST_PATTERN, KEY_PATTERN, keys } from '../names.ts'
import { swapParameter } from '../swap-document.ts'
import type { SwapStackWorld } from './swap-world.ts'

const images = z.record(z.string(), z.string().regex(DIGEST_PATTERN))

/**
 * `swaps/<stack>/<n>`: a log of exclusively created entries. `begun` and `ended` frame a swap; whoever finds a `begun` whose owner no longer beats goes on from
 * there. The newest `ended` or `closed` says which images the stack runs beside those of its machine images.
 */
const common = { version: z.literal(1), at: z.number(), by: z.string() }
const entrySchema = z.discriminatedUnion('state', [
  z.object({ ...common, state: z.literal('begun'), owner: z.string(), commit: z.string().regex(COMMIT_PATTERN), images }),
  z.object({
    ...common,
    state: z.literal('ended'),
    status: z.enum(['swapped', 'partly', 'failed']),
    commit: z.string().regex(COMMIT_PATTERN),
    /** By service, of all swaps since the stack was deployed to: what an instance that joins is to run. */
    images,
    /** Inputs hashes of the machine images that they overlay; any other machine image runs what it has. */
    inputs: z.array(z.string().regex(KEY_PATTERN)),
  }),
  /** A deployment takes their place. */
  z.object({ ...common, state: z.literal('closed'), deployment: z.number() }),
])
export type SwapEntry = z.infer<typeof entrySchema>
export type NewSwapEntry = SwapEntry extends infer E ? (E extends SwapEntry ? Omit<E, 'version' | 'at' | 'by'> : never) : never

export interface SwapLog {
  /** Number of the next entry. */
  next: number
  last?: SwapEntry
  /** What the stack runs; absent: what its machine images have. */
  current?: Extract<SwapEntry, { state: 'ended' }>
}

/** Throws ledger_damaged (exit 4). */
export async function readSwaps(ledger: Ledger, stack: string): Promise<SwapLog> {
  const prefix = keys.swaps(stack)
  const names = await ledger.list(prefix)
  const next = names.length === 0 ? 0 : Number(names.at(-1)!.slice(prefix.length)) + 1
  let last: SwapEntry | undefined
  for (let n = next - 1; n >= 0; n--) {
    const entry = await read(ledger, keys.swap(stack, n), entrySchema)
    if (entry === undefined) continue
    last ??= entry
    if (entry.state === 'closed') break
    // One that failed changed nothing of what is recorded.
    if (entry.state === 'ended' && entry.status !== 'failed') return { next, last, current: entry }
  }
  return { next, ...(last && { last }) }
}

/** False when somebody else's entry has that number. */
export const appendSwap = (
  ledger: Ledger,
  { stack, n }: { stack: string; n: number },
  entry: NewSwapEntry,
  by: string,
): Promise<boolean> =>
  ledger.create(keys.swap(stack, n), { ...entry, version: 1, at: Date.now(), by, nonce: crypto.randomUUID() })

type Overlay = Pick<Extract<SwapEntry, { state: 'ended' }>, 'images' | 'inputs'>

/** What is swapped comes on top of what was before, as long as it is of the same machine images; else it begins anew. */
export function merged(current: Overlay | undefined, { images, inputs }: Overlay): Overlay {
  const known = current && inputs.every((each) => current.inputs.includes(each)) ? current : undefined
  return { images: { ...known?.images, ...images }, inputs: [...new Set([...(known?.inputs ?? []), ...inputs])].sort() }
}

/** What is in it (templates/boot/swap.sh.hbs): one fact a line. */
export const swapText = ({ images: all, inputs }: Overlay): string =>
  [
    'bake-swap 1',
    `inputs ${inputs.join(' ')}`,
    ...Object.entries(all).map(([service, digest]) => `${service} ${digest}`),
    '',
  ].join('\n')

/**
 * A deployment takes the place of what was swapped: its own instances run what their machine image has. Done before it begins, as often as it is asked for.
 * Throws ec2_* (exit 4).
 */
export async function closeSwaps(
  { stack, project, deployment }: { stack: string; project: string; deployment: number },
  {
    ledger,
    parameters,
    by,
  }: Pick<SwapStackWorld, 'ledger' | 'by'> & { parameters: Pick<SwapStackWorld['parameters'], 'delete'> },
): Promise<void> {
  for (;;) {
    const { last, next } = await readSwaps(ledger, stack)
    if (last === undefined) return
    // The parameter first: an instance that joins in between reads nothing, which is right from here on.
    await parameters.delete(swapParameter(project, stack))
    if (last.state === 'closed') return
    if (await appendSwap(ledger, { stack, n: next }, { state: 'closed', deployment }, by)) return
  }
}
