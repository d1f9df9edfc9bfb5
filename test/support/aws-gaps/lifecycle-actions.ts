import { type Answer, answerOf, type Gaps, refusal, startScalingGaps } from './autoscaling-wire.ts'

/**
 * STAND-IN in front of moto's Auto Scaling for what that lacks: instances that wait at a termination hook, RecordLifecycleActionHeartbeat and
 * CompleteLifecycleAction, written from https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CompleteLifecycleAction.html and
 * API_RecordLifecycleActionHeartbeat.html. Other calls that bake makes go to moto; a call that it doesn't know is refused and fails the test at the end.
 */
export interface TestLifecycle extends Gaps {
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

interface Waiting {
  group: string
  name: string
  heartbeatSeconds: number
  untilMs: number
}

export async function startLifecycle(moto: string): Promise<TestLifecycle> {
  const waiting = new Map<string, Waiting>()
  const state = { heartbeats: [] as string[], completed: [] as string[], protections: [] as string[] }

  /** The instance that waits at the hook of a request, or what the API says when there is none. */
  const subject = (form: URLSearchParams): { id: string; at: Waiting } | Answer => {
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

  const own = (action: string, form: URLSearchParams): Answer | undefined => {
    if (action !== 'RecordLifecycleActionHeartbeat' && action !== 'CompleteLifecycleAction') return undefined
    const found = subject(form)
    if ('status' in found) return found
    if (action === 'RecordLifecycleActionHeartbeat') {
      found.at.untilMs = Date.now() + found.at.heartbeatSeconds * 1000
      state.heartbeats.push(found.id)
      return answerOf(action)
    }
    const result = form.get('LifecycleActionResult') ?? ''
    if (!['CONTINUE', 'ABANDON'].includes(result)) return refusal('LifecycleActionResult must be CONTINUE or ABANDON')
    waiting.delete(found.id)
    state.completed.push(`${found.id} ${result}`)
    return answerOf(action)
  }
  const passed = (action: string, form: URLSearchParams) => {
    if (action === 'SetInstanceProtection')
      state.protections.push(`${form.get('InstanceIds.member.1')} ${form.get('ProtectedFromScaleIn') === 'true' ? 'on' : 'off'}`)
  }
  const gaps = await startScalingGaps(moto, { forwarded: FORWARDED, own, passed })
  return Object.assign(state, gaps, {
    terminate(instance: string, hook: { group: string; name: string; heartbeatSeconds: number }) {
      waiting.set(instance, { ...hook, untilMs: Date.now() + hook.heartbeatSeconds * 1000 })
    },
    overdue: () => [...waiting].filter(([, { untilMs }]) => untilMs < Date.now()).map(([id]) => id),
  })
}
