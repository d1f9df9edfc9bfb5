import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { serve } from '../serve.ts'

/**
 * STAND-IN for Elastic Load Balancing v2's target groups, in moto's place, whose targets are healthy at once and for ever. Written from
 * https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/: a target is `initial`, then healthy; one that is deregistered drains, then is gone; an instance that was
 * just launched isn't known yet (InvalidTarget). A state lasts for some looks. A call that it doesn't know is refused and fails the test at the end.
 */
export interface TestBalancers extends AsyncDisposable {
  readonly endpoint: string
  /** ARN of a new target group. */
  make(name: string): string
  /** Ids by state: `healthy` → … */
  states(arn: string): Record<string, string[]>
  /** Looks that a state lasts, and registrations that fail after a launch. */
  lag: number
  /** What drains goes on until this is false. */
  drainHolds: boolean
  /** Instances that never become healthy. */
  readonly sick: Set<string>
  readonly denied: Set<string>
  /** `<action> <instance>`, in order. */
  readonly changes: string[]
  /** As Auto Scaling does. */
  launched(instance: string): void
  add(arn: string, instance: string): void
  remove(arn: string, instance: string): void
  /** It is registered and healthy. */
  serve(arn: string, instance: string): void
}

const NAMESPACE = 'http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/'
/** An instance that no account has: it is asked about to learn of permissions. */
const NOBODY = 'i-00000000000000000'

export async function startBalancers(): Promise<TestBalancers> {
  const groups = new Map<string, Map<string, { state: string; looks: number }>>()
  const young = new Map<string, number>()
  const unknown: string[] = []
  const state = { lag: 2, drainHolds: false, sick: new Set<string>(), denied: new Set<string>(), changes: [] as string[] }

  const answer = (action: string, result = '') =>
    `<${action}Response xmlns="${NAMESPACE}"><${action}Result>${result}</${action}Result><ResponseMetadata><RequestId>${randomUUID()}</RequestId></ResponseMetadata></${action}Response>`
  const refusal = (code: string, message: string, status = 400) => ({
    status,
    body: `<ErrorResponse xmlns="${NAMESPACE}"><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error><RequestId>${randomUUID()}</RequestId></ErrorResponse>`,
  })
  const put = (arn: string, id: string) => groups.get(arn)!.set(id, { state: 'initial', looks: state.lag })
  const drain = (arn: string, id: string) => {
    const target = groups.get(arn)!.get(id)
    if (target && target.state !== 'draining') Object.assign(target, { state: 'draining', looks: state.lag })
  }

  function register(arn: string, ids: string[]) {
    for (const id of ids) {
      const left = young.get(id) ?? 0
      young.set(id, left - 1)
      if (id === NOBODY || left > 0)
        return refusal('InvalidTarget', `The following targets are not in a running state and cannot be registered: '${id}'`)
    }
    for (const id of ids) {
      const is = groups.get(arn)!.get(id)
      state.changes.push(`RegisterTargets ${id}`)
      if (is === undefined || is.state === 'draining') put(arn, id)
    }
    return answer('RegisterTargets')
  }

  /** What a look shows, before it goes one look further. */
  function look(arn: string): string {
    const targets = groups.get(arn)!
    const members = [...targets].map(([id, target]) => {
      const shown = target.state
      target.looks--
      if (target.looks <= 0 && shown === 'initial') target.state = state.sick.has(id) ? 'unhealthy' : 'healthy'
      if (target.looks <= 0 && shown === 'draining' && !state.drainHolds) targets.delete(id)
      const why =
        shown === 'unhealthy' ? '<Reason>Target.FailedHealthChecks</Reason><Description>Health checks failed</Description>' : ''
      return `<member><Target><Id>${id}</Id><Port>80</Port></Target><HealthCheckPort>80</HealthCheckPort><TargetHealth><State>${shown}</State>${why}</TargetHealth></member>`
    })
    return answer('DescribeTargetHealth', `<TargetHealthDescriptions>${members.join('')}</TargetHealthDescriptions>`)
  }

  function act(action: string, form: URLSearchParams): string | { status: number; body: string } {
    const arn = form.get('TargetGroupArn') ?? ''
    if (state.denied.has(action))
      return refusal('AccessDenied', `User is not authorized to perform: elasticloadbalancing:${action}`, 403)
    if (!groups.has(arn)) return refusal('TargetGroupNotFound', `One or more target groups not found`)
    const ids: string[] = []
    for (let n = 1; form.has(`Targets.member.${n}.Id`); n++) ids.push(form.get(`Targets.member.${n}.Id`)!)
    if (action === 'RegisterTargets') return register(arn, ids)
    if (action === 'DescribeTargetHealth') return look(arn)
    if (action === 'DeregisterTargets') {
      for (const id of ids) {
        if (id !== NOBODY) state.changes.push(`DeregisterTargets ${id}`)
        drain(arn, id)
      }
      return answer(action)
    }
    if (action === 'DescribeTargetGroupAttributes')
      return answer(
        action,
        '<Attributes><member><Key>deregistration_delay.timeout_seconds</Key><Value>30</Value></member></Attributes>',
      )
    unknown.push(action)
    return refusal('InvalidAction', `the stand-in doesn't know ${action}`)
  }

  const server = createServer(async (request, response) => {
    const form = new URLSearchParams(await text(request))
    const told = act(form.get('Action') ?? '', form)
    const { status, body } = typeof told === 'string' ? { status: 200, body: told } : told
    response.writeHead(status, { 'content-type': 'text/xml' }).end(body)
  })
  const { endpoint, close } = await serve(server)
  return Object.assign(state, {
    endpoint,
    make(name: string) {
      const arn = `arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/${name}/0123456789abcdef`
      groups.set(arn, new Map())
      return arn
    },
    states: (arn: string) => {
      const found: Record<string, string[]> = {}
      for (const [id, { state: is }] of groups.get(arn)!) found[is] = [...(found[is] ?? []), id]
      return found
    },
    launched: (id: string) => void young.set(id, state.lag),
    add: put,
    remove: drain,
    serve: (arn: string, id: string) => void groups.get(arn)!.set(id, { state: 'healthy', looks: 0 }),
    async [Symbol.asyncDispose]() {
      await close()
      if (unknown.length > 0) throw new Error(`calls that the stand-in for load balancers doesn't know: ${unknown.join(', ')}`)
    },
  })
}
