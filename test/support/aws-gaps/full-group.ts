import {
  AutoScalingClient,
  type AutoScalingGroup,
  DescribeAutoScalingGroupsCommand,
  TerminateInstanceInAutoScalingGroupCommand,
} from '@aws-sdk/client-auto-scaling'
import { MOTO_REGION } from '../moto.ts'
import { type Answer, answerOf, type Gaps, refusal, startScalingGaps } from './autoscaling-wire.ts'
import type { TestBalancers } from './full-balancers.ts'

/**
 * STAND-IN in front of the stand-in for instance refreshes, for what moto's Auto Scaling ignores or doesn't check when bake takes the steps of a full deployment itself:
 * AddToLoadBalancer and what is launched while it is suspended (https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html: such
 * instances aren't registered on resume), Launch and Terminate when they are suspended, sizes that don't fit each other, instances that are Pending for a look,
 * scale-in that must not take what is protected, and target groups of a group. Calls that bake doesn't make here are refused further behind.
 */
export interface TestFullGroups extends Gaps {
  /** Calls so far that change something, in order. */
  readonly changes: { action: string; form: URLSearchParams }[]
  /** Actions that nobody may use. */
  readonly denied: Set<string>
  /** Actions that are carried out, and whose answers get lost. */
  readonly lost: Set<string>
  /** Why nothing can be launched. */
  trouble: string | undefined
  /** Target groups of a group, whose instances are registered; the group is told of a classic load balancer or a warm pool too, if it is to have one. */
  attach(group: string, more: { targetGroups: string[]; classic?: string; warmPool?: boolean }): Promise<void>
}

const CHANGES = new Set([
  'UpdateAutoScalingGroup',
  'SetInstanceProtection',
  'TerminateInstanceInAutoScalingGroup',
  'SuspendProcesses',
  'ResumeProcesses',
])
const HANDED_ON = new Set([
  'DescribeAutoScalingGroups',
  'ResumeProcesses',
  'SuspendProcesses',
  'CreateAutoScalingGroup',
  'CreateLaunchConfiguration',
  'DeleteAutoScalingGroup',
  'StartInstanceRefresh',
  'DescribeInstanceRefreshes',
  'RollbackInstanceRefresh',
])

export async function startFullGroups(moto: string, behind: string, balancers: TestBalancers): Promise<TestFullGroups> {
  const attached = new Map<string, { targetGroups: string[]; classic?: string; warmPool?: boolean }>()
  const known = new Map<string, Set<string>>()
  const pending = new Set<string>()
  const state = {
    changes: [] as TestFullGroups['changes'],
    denied: new Set<string>(),
    lost: new Set<string>(),
    trouble: undefined as string | undefined,
  }
  const client = new AutoScalingClient({
    region: MOTO_REGION,
    endpoint: moto,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  })
  const describe = async (name: string): Promise<AutoScalingGroup | undefined> =>
    (await client.send(new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [name] }))).AutoScalingGroups?.[0]
  const suspended = ({ SuspendedProcesses = [] }: AutoScalingGroup, process: string) =>
    SuspendedProcesses.some(({ ProcessName }) => ProcessName === process)

  /** What came and went since the last time. */
  async function sync(name: string): Promise<void> {
    const group = await describe(name)
    const { targetGroups } = attached.get(name) ?? { targetGroups: [] }
    const before = known.get(name)
    if (!group || !before) return
    const now = new Set((group.Instances ?? []).map(({ InstanceId }) => InstanceId!))
    for (const id of now)
      if (!before.has(id)) {
        pending.add(id)
        balancers.launched(id)
        if (!suspended(group, 'AddToLoadBalancer')) for (const arn of targetGroups) balancers.add(arn, id)
      }
    for (const id of before) if (!now.has(id)) for (const arn of targetGroups) balancers.remove(arn, id)
    known.set(name, now)
  }

  async function check(action: string, form: URLSearchParams): Promise<Answer | undefined> {
    const name = form.get('AutoScalingGroupName') ?? ''
    if (action === 'UpdateAutoScalingGroup') {
      const group = await describe(name)
      if (!group) return refusal('AutoScalingGroup name not found - null')
      const number = (key: string, is: number | undefined) => Number(form.get(key) ?? is)
      const [min, max] = [number('MinSize', group.MinSize), number('MaxSize', group.MaxSize)]
      const desired = number('DesiredCapacity', group.DesiredCapacity)
      if (desired < min || desired > max)
        return refusal(`Desired capacity:${desired} must be between the specified min size:${min} and max size:${max}`)
      const unprotected = (group.Instances ?? []).filter(({ ProtectedFromScaleIn }) => !ProtectedFromScaleIn).length
      const surplus = (group.Instances ?? []).length - desired
      if (surplus > 0 && unprotected > 0) state.changes.push({ action: 'SCALE-IN', form })
      if (surplus < 0 && (state.trouble !== undefined || suspended(group, 'Launch'))) {
        form.set('DesiredCapacity', String(group.DesiredCapacity))
        owed.set(name, desired)
      } else owed.delete(name)
    }
    if (action === 'TerminateInstanceInAutoScalingGroup') {
      const id = form.get('InstanceId')!
      const found = [...known].find(([, instances]) => instances.has(id))
      const group = found && (await describe(found[0]))
      if (!group) return refusal(`Instance Id not found - No managed instance found for instance ID: ${id}`)
      const desired = group.DesiredCapacity! - 1
      if (desired < group.MinSize!)
        return refusal(
          `Currently, desiredSize equals minSize (${group.MinSize}). Terminating instance without replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.`,
        )
    }
    return undefined
  }
  /** What a group was asked to have while nothing could be launched. */
  const owed = new Map<string, number>()

  const gaps = await startScalingGaps(behind, {
    forwarded: HANDED_ON,
    passed(action, form) {
      if (CHANGES.has(action)) state.changes.push({ action, form })
    },
    async change(action, form, body) {
      const name = form.get('AutoScalingGroupNames.member.1')
      if (action !== 'DescribeAutoScalingGroups' || name === null) return body
      await sync(name)
      const more = attached.get(name)
      const members = (list: string, values: string[]) =>
        values.length === 0 ? '' : `<${list}>${values.map((value) => `<member>${value}</member>`).join('')}</${list}>`
      const lists = more
        ? members('TargetGroupARNs', more.targetGroups) +
          members('LoadBalancerNames', more.classic === undefined ? [] : [more.classic]) +
          (more.warmPool ? '<WarmPoolConfiguration><MinSize>1</MinSize></WarmPoolConfiguration>' : '')
        : ''
      const owes = owed.get(name)
      return body
        .replaceAll(/<(TargetGroupARNs|LoadBalancerNames|WarmPoolConfiguration)\s*\/>/g, '')
        .replace(/<DesiredCapacity>\d+/, (is) => (owes === undefined ? is : `<DesiredCapacity>${owes}`))
        .replace(`<AutoScalingGroupName>${name}</AutoScalingGroupName>`, (own) => own + lists)
        .replaceAll(/<InstanceId>(i-[0-9a-f]+)<\/InstanceId>[\s\S]*?<\/member>/g, (member, id: string) =>
          pending.delete(id) ? member.replace(/<LifecycleState>[^<]*/, '<LifecycleState>Pending') : member,
        )
    },
    async own(action, form) {
      if (state.denied.has(action))
        return refusal(`User: arn:aws:iam::1:user/a is not authorized to perform: autoscaling:${action}`, 'AccessDenied', 403)
      if (action === 'DescribeScalingActivities')
        return answerOf(
          action,
          state.trouble === undefined
            ? '<Activities/>'
            : `<Activities><member><ActivityId>1</ActivityId><AutoScalingGroupName>g</AutoScalingGroupName><Cause>c</Cause><StartTime>2026-01-01T00:00:00Z</StartTime><StatusCode>Failed</StatusCode><StatusMessage>${state.trouble}</StatusMessage></member></Activities>`,
        )
      if (!['UpdateAutoScalingGroup', 'SetInstanceProtection', 'TerminateInstanceInAutoScalingGroup'].includes(action))
        return undefined
      const wrong = await check(action, form)
      if (wrong) return wrong
      state.changes.push({ action, form })
      const told = await toMoto(action, form)
      const name = form.get('AutoScalingGroupName')
      for (const group of name === null ? known.keys() : [name]) await sync(group)
      return state.lost.has(action) ? { status: 500, body: '' } : told
    },
  })

  async function toMoto(action: string, form: URLSearchParams): Promise<Answer> {
    if (action === 'TerminateInstanceInAutoScalingGroup') {
      const InstanceId = form.get('InstanceId')!
      const { Activity } = await client.send(
        new TerminateInstanceInAutoScalingGroupCommand({ InstanceId, ShouldDecrementDesiredCapacity: true }),
      )
      return answerOf(
        action,
        `<Activity><ActivityId>${Activity?.ActivityId ?? '1'}</ActivityId><AutoScalingGroupName>g</AutoScalingGroupName><Cause>c</Cause><StartTime>2026-01-01T00:00:00Z</StartTime><StatusCode>InProgress</StatusCode></Activity>`,
      )
    }
    const credential = `AWS4-HMAC-SHA256 Credential=test/20260101/${MOTO_REGION}/autoscaling/aws4_request, SignedHeaders=host, Signature=0`
    const headers = { authorization: credential, 'content-type': 'application/x-www-form-urlencoded' }
    const answer = await fetch(moto, { method: 'POST', headers, body: form.toString() })
    return { status: answer.status, body: await answer.text() }
  }

  return Object.assign(state, gaps, {
    async attach(group: string, more: { targetGroups: string[]; classic?: string; warmPool?: boolean }) {
      attached.set(group, more)
      const ids = ((await describe(group))?.Instances ?? []).map(({ InstanceId }) => InstanceId!)
      known.set(group, new Set(ids))
      for (const id of ids) for (const arn of more.targetGroups) balancers.serve(arn, id)
    },
  })
}
