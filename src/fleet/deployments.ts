import { z } from 'zod'
import type { Ledger } from '../io/ledger.ts'
import { read } from '../jobs/records.ts'
import { COMMIT_PATTERN, keys } from '../names.ts'
import { fullRecordSchema, fullSteps } from './full-record.ts'

/** What instances of a group are launched from: a numbered version, and the AMI that is literally in it. */
const launchSchema = z.object({
  /** Absent: a version that bake didn't make. */
  release: z.string().optional(),
  commit: z.string().regex(COMMIT_PATTERN).optional(),
  image: z.string(),
  template: z.object({ id: z.string(), name: z.string(), version: z.number() }),
})
export type Launch = z.infer<typeof launchSchema>

/** `deployments/<stack>/<n>`: what is to be done, created once, before anything is. n + 1 is created only after n has ended. */
const every = {
  version: z.literal(1),
  project: z.string(),
  stack: z.string(),
  kind: z.enum(['deploy', 'rollback']),
  group: z.string(),
  region: z.string(),
  from: launchSchema,
  to: launchSchema,
  /** `user@machine` */
  by: z.string(),
  at: z.number(),
}
const rollingSchema = z.object({
  ...every,
  strategy: z.literal('rolling'),
  rolling: z.object({
    minHealthy: z.number(),
    maxHealthy: z.number(),
    warmupSeconds: z.number().optional(),
    bakeSeconds: z.number().optional(),
    checkpoints: z.array(z.number()),
    checkpointSeconds: z.number().optional(),
    alarms: z.array(z.string()),
    skipMatching: z.boolean(),
  }),
  /** The group's newest refresh when this was planned: whatever is newer may be this one's. */
  before: z.string().optional(),
})
const fullSchema = z.object({ ...every, strategy: z.literal('full'), full: fullRecordSchema })
const deploymentSchema = z.discriminatedUnion('strategy', [rollingSchema, fullSchema])
export type DeploymentDocument = z.infer<typeof deploymentSchema>
export type RollingDocument = z.infer<typeof rollingSchema>
export type FullDocument = z.infer<typeof fullSchema>

/** `deployment-steps/<stack>/<n>/<k>`: created exclusively, before the step is taken. Nothing comes after `ended`. */
const common = { version: z.literal(1), at: z.number(), by: z.string() }
const stepSchema = z.discriminatedUnion('step', [
  /** Auto Scaling is about to be asked: from here on a refresh may exist that nobody noted. */
  z.object({ ...common, step: z.literal('starting') }),
  z.object({ ...common, step: z.literal('refresh'), id: z.string() }),
  /** It goes back from here on: a person wants it, or `reason` says why bake does. */
  z.object({ ...common, step: z.literal('rolling-back'), reason: z.string().optional() }),
  z.object({
    ...common,
    step: z.literal('ended'),
    status: z.enum(['deployed', 'rolled-back', 'failed', 'cancelled']),
    reason: z.string().optional(),
  }),
  ...fullSteps(common),
])
export type Step = z.infer<typeof stepSchema>
export type StepOf<Name extends Step['step']> = Extract<Step, { step: Name }>
export type Ended = StepOf<'ended'>
/** What a caller says of a step. */
export type NewStep = Step extends infer S ? (S extends Step ? Omit<S, 'version' | 'at' | 'by'> : never) : never

/** One deployment, as read. */
export class Deployment<Document extends DeploymentDocument = DeploymentDocument> {
  readonly n: number
  readonly document: Document
  readonly steps: readonly Step[]

  constructor(n: number, document: Document, steps: readonly Step[] = []) {
    this.n = n
    this.document = document
    this.steps = steps
  }

  get ended(): Ended | undefined {
    const last = this.steps.at(-1)
    return last?.step === 'ended' ? last : undefined
  }

  /** The refresh of it, once that is known. */
  get refresh(): string | undefined {
    return this.steps.find((step) => step.step === 'refresh')?.id
  }

  has(step: Step['step']): boolean {
    return this.steps.some((each) => each.step === step)
  }

  /** The newest step of that name. */
  last<Name extends Step['step']>(name: Name): StepOf<Name> | undefined {
    return this.steps.findLast((each): each is StepOf<Name> => each.step === name)
  }
}

export type Full = Deployment<FullDocument>
export type Rolling = Deployment<RollingDocument>
export const isFull = (deployment: Deployment): deployment is Full => deployment.document.strategy === 'full'
export const isRolling = (deployment: Deployment): deployment is Rolling => deployment.document.strategy === 'rolling'

/** Deployments read at once. */
const READ_AT_ONCE = 32

/** A stack's deployments, newest first, `limit` of them at most. Throws ledger_damaged (exit 4). */
export async function readDeployments(ledger: Ledger, stack: string, limit = Number.POSITIVE_INFINITY): Promise<Deployment[]> {
  const prefix = keys.deployments(stack)
  const numbers = (await ledger.list(prefix)).map((key) => Number(key.slice(prefix.length))).reverse()
  const wanted = numbers.slice(0, limit)
  const found: (Deployment | undefined)[] = []
  for (let at = 0; at < wanted.length; at += READ_AT_ONCE)
    found.push(...(await Promise.all(wanted.slice(at, at + READ_AT_ONCE).map((n) => readDeployment(ledger, stack, n)))))
  return found.filter((deployment) => deployment !== undefined)
}

export const newest = async (ledger: Ledger, stack: string): Promise<Deployment | undefined> =>
  (await readDeployments(ledger, stack, 1))[0]

/** A stack's deployments, newest first, read one by one. */
export async function* eachDeployment(ledger: Ledger, stack: string): AsyncGenerator<Deployment> {
  const last = await newest(ledger, stack)
  for (let n = last?.n ?? -1; n >= 0; n--) {
    const deployment = n === last?.n ? last : await readDeployment(ledger, stack, n)
    if (deployment) yield deployment
  }
}

/** Undefined when there is none of that number. */
async function readDeployment(ledger: Ledger, stack: string, n: number): Promise<Deployment | undefined> {
  const document = await read(ledger, keys.deployment(stack, n), deploymentSchema)
  return document && (await refresh(ledger, new Deployment(n, document)))
}

/** The same with the steps that were taken meanwhile. */
export async function refresh<D extends DeploymentDocument>(
  ledger: Ledger,
  { n, document, steps: known }: Deployment<D>,
): Promise<Deployment<D>> {
  const steps = [...known]
  for (;;) {
    const step = await read(ledger, keys.deploymentStep(document.stack, n, steps.length), stepSchema)
    if (step === undefined) return new Deployment(n, document, steps)
    steps.push(step)
  }
}

/** Undefined when somebody else's has that number. */
export async function create<D extends DeploymentDocument>(
  ledger: Ledger,
  n: number,
  document: D,
): Promise<Deployment<D> | undefined> {
  const won = await ledger.create(keys.deployment(document.stack, n), { ...document, nonce: crypto.randomUUID() })
  return won ? new Deployment(n, document) : undefined
}

/** The deployment with the step, or, when somebody else took the next one, with theirs. */
export async function take<D extends DeploymentDocument>(
  ledger: Ledger,
  deployment: Deployment<D>,
  step: NewStep,
  by: string,
): Promise<Deployment<D>> {
  return (await tryTake(ledger, deployment, step, by)) ?? (await refresh(ledger, deployment))
}

/** Undefined when somebody else took the next step. */
export async function tryTake<D extends DeploymentDocument>(
  ledger: Ledger,
  { n, document, steps }: Deployment<D>,
  step: NewStep,
  by: string,
): Promise<Deployment<D> | undefined> {
  const full = { ...step, version: 1, at: Date.now(), by } as Step
  const won = await ledger.create(keys.deploymentStep(document.stack, n, steps.length), { ...full, nonce: crypto.randomUUID() })
  return won ? new Deployment(n, document, [...steps, full]) : undefined
}
