import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'

/**
 * STAND-IN in front of moto's Auto Scaling for what that lacks: instances that wait at a termination hook, RecordLifecycleActionHeartbeat and
 * CompleteLifecycleAction, written from https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CompleteLifecycleAction.html and
 * API_RecordLifecycleActionHeartbeat.html. Other calls that bake makes go to moto; a call that it doesn't know is refused and fails the test at the end.
 */
export interface TestLifecycle extends AsyncDisposable {
  readonly endpoint: string
  /** The group begins to terminate the instance: it waits at the hook. */
  terminate(instance: string, hook: { group: string; name: string; heartbeatSeconds: number }): void
  readonly heartbeats: string[]
  /** `<instance> <result>`, in order. */
  readonly completed: string[]
  /** `<instance> <on|off>` in order, as moto took them. */
  readonly protections: string[]
  /** Instances whose time ran out while they waited. */
  overdue(): string[]
}

const FORWARDED = new Set(['DescribeAutoScalingInstances', 'DescribeLifecycleHooks', 'SetInstanceProtection'])
const NAMESPACE = 'http://autoscaling.amazonaws.com/doc/2011-01-01/'

interface Waiting {
  group: string
  name: string
  heartbeatSeconds: number
  untilMs: number
}

export async function startLifecycle(moto: string): Promise<TestLifecycle> {
  const waiting = new Map<string, Waiting>()
  const state = { heartbeats: [] as string[], completed: [] as string[], protections: [] as string[] }
  const unknown: string[] = []

  const answer = (action: string): string =>
    `<${action}Response xmlns="${NAMESPACE}"><${action}Result/><ResponseMetadata><RequestId>${randomUUID()}</RequestId></ResponseMetadata></${action}Response>`
  const refusal = (message: string): { status: number; body: string } => ({
    status: 400,
    body: `<ErrorResponse xmlns="${NAMESPACE}"><Error><Type>Sender</Type><Code>ValidationError</Code><Message>${message}</Message></Error><RequestId>${randomUUID()}</RequestId></ErrorResponse>`,
  })
  /** The instance that waits at the hook of a request, or what the API says when there is none. */
  const subject = (form: URLSearchParams): { id: string; at: Waiting } | { status: number; body: string } => {
    const [group, hook, id] = ['AutoScalingGroupName', 'LifecycleHookName', 'InstanceId'].map((name) => form.get(name) ?? '')
    const missing = { AutoScalingGroupName: group, LifecycleHookName: hook }
    for (const [name, value] of Object.entries(missing))
      if (!value) return refusal(`1 validation error detected: ${name} must not be null`)
    if (!id && !form.get('LifecycleActionToken')) return refusal('Either LifecycleActionToken or InstanceId must be given')
    const at = waiting.get(id!)
    if (!at || at.group !== group || at.name !== hook || at.untilMs < Date.now())
      return refusal(`No active Lifecycle Action found with instance ID ${id}`)
    return { id: id!, at }
  }

  const server = createServer(async (request, response) => {
    const body = await text(request)
    const form = new URLSearchParams(body)
    const action = form.get('Action') ?? ''
    const send = (status: number, xml: string) => response.writeHead(status, { 'content-type': 'text/xml' }).end(xml)
    if (action === 'RecordLifecycleActionHeartbeat' || action === 'CompleteLifecycleAction') {
      const found = subject(form)
      if ('status' in found) return send(found.status, found.body)
      const result = form.get('LifecycleActionResult') ?? ''
      if (action === 'CompleteLifecycleAction') {
        if (!['CONTINUE', 'ABANDON'].includes(result)) {
          const { status, body: xml } = refusal('LifecycleActionResult must be CONTINUE or ABANDON')
          return send(status, xml)
        }
        waiting.delete(found.id)
        state.completed.push(`${found.id} ${result}`)
      } else {
        found.at.untilMs = Date.now() + found.at.heartbeatSeconds * 1000
        state.heartbeats.push(found.id)
      }
      return send(200, answer(action))
    }
    if (!FORWARDED.has(action)) {
      unknown.push(action)
      const { body: xml } = refusal(`the stand-in doesn't know ${action}`)
      return send(400, xml)
    }
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => !['host', 'content-length', 'connection'].includes(name)),
    ) as Record<string, string>
    const passed = await fetch(moto, { method: 'POST', headers, body })
    if (action === 'SetInstanceProtection' && passed.ok)
      state.protections.push(`${form.get('InstanceIds.member.1')} ${form.get('ProtectedFromScaleIn') === 'true' ? 'on' : 'off'}`)
    send(passed.status, await passed.text())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return Object.assign(state, {
    endpoint: `http://127.0.0.1:${address.port}`,
    terminate(instance: string, hook: { group: string; name: string; heartbeatSeconds: number }) {
      waiting.set(instance, { ...hook, untilMs: Date.now() + hook.heartbeatSeconds * 1000 })
    },
    overdue: () => [...waiting].filter(([, { untilMs }]) => untilMs < Date.now()).map(([id]) => id),
    async [Symbol.asyncDispose]() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
      if (unknown.length > 0) throw new Error(`calls that the stand-in for Auto Scaling doesn't know: ${unknown.join(', ')}`)
    },
  })
}
