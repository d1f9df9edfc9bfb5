import { randomUUID } from 'node:crypto'
import {
  AutoScalingClient,
  type AutoScalingGroup,
  DescribeAutoScalingGroupsCommand,
  TerminateInstanceInAutoScalingGroupCommand,
  UpdateAutoScalingGroupCommand,
} from '@aws-sdk/client-auto-scaling'
import { MOTO_REGION } from '../moto.ts'
import { type Answer, answerOf, type Gaps, refusal, startScalingGaps } from './autoscaling-wire.ts'

/**
 * STAND-IN in front of moto's Auto Scaling for the four calls of instance refreshes, which it lacks, written from
 * https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_StartInstanceRefresh.html, API_DescribeInstanceRefreshes.html,
 * API_RollbackInstanceRefresh.html and API_CancelInstanceRefresh.html. A refresh goes one state further with each look, unless it is held; what it does to the
 * group it does in moto (which tells the template's default version of every instance; the stand-in knows better): instances are terminated one by one, and the group gets the desired configuration when the refresh has succeeded. Other calls that bake
 * makes go to moto; a call that it doesn't know is refused and fails the test at the end.
 */
export interface TestRefreshes extends Gaps {
  /** Calls so far that change something, in order: `StartInstanceRefresh`, … */
  readonly changes: { action: string; form: URLSearchParams }[]
  /** The state that a refresh stays in until this is changed, such as InProgress. */
  hold: string | undefined
  /** Why instances don't become healthy: the refresh fails halfway, and goes back if it may. */
  sick: string | undefined
  /** CloudWatch alarms that have gone off. */
  readonly alarms: Set<string>
  /** Actions that nobody may use. */
  readonly denied: Set<string>
  /** Actions that are carried out, and whose answers get lost. */
  readonly lost: Set<string>
  /** Another one than bake's, for the group. */
  begin(group: string): void
  /** Refreshes that the group has had. */
  count(group: string): number
  /** As a person does in the console. */
  cancel(group: string): void
}

interface Refresh {
  id: string
  group: string
  status: string
  reason?: string
  template?: { id: string; version: string }
  before?: { id: string; version: string }
  autoRollback: boolean
  bakeTime: number
  percent: number
  left: number
  /** As they were when it began to go back. */
  rollback?: { reason?: string | undefined; percent: number; left: number }
}

/** The last ones: what tests make by hand, and `bake setup`. */
const FORWARDED = new Set([
  'DescribeAutoScalingGroups',
  'ResumeProcesses',
  'SuspendProcesses',
  'CreateAutoScalingGroup',
  'CreateLaunchConfiguration',
  'DeleteAutoScalingGroup',
  'CreateOrUpdateTags',
])
const ACTIVE = new Set(['Pending', 'InProgress', 'Cancelling', 'RollbackInProgress', 'Baking'])
const CALLS = ['StartInstanceRefresh', 'RollbackInstanceRefresh', 'CancelInstanceRefresh']

export async function startRefreshes(moto: string): Promise<TestRefreshes> {
  const all: Refresh[] = []
  const state = {
    changes: [] as TestRefreshes['changes'],
    hold: undefined as string | undefined,
    sick: undefined as string | undefined,
    alarms: new Set<string>(),
    denied: new Set<string>(),
    lost: new Set<string>(),
  }
  const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
  const client = new AutoScalingClient({ region: MOTO_REGION, endpoint: moto, credentials })
  const groupOf = async (name: string): Promise<AutoScalingGroup | undefined> => {
    const { AutoScalingGroups } = await client.send(new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [name] }))
    return AutoScalingGroups?.[0]
  }
  /** Version that an instance was launched from: its group's when it was seen first. */
  const versions = new Map<string, string>()
  const note = async (name: string) => {
    const { LaunchTemplate, Instances = [] } = (await groupOf(name)) ?? {}
    for (const { InstanceId = '' } of Instances)
      if (!versions.has(InstanceId)) versions.set(InstanceId, LaunchTemplate?.Version ?? '')
  }
  const activeOf = (group: string) => all.find((refresh) => refresh.group === group && ACTIVE.has(refresh.status))

  async function start(group: string, form: URLSearchParams): Promise<Answer> {
    const found = await groupOf(group)
    if (!found) return refusal(`AutoScalingGroup name not found - AutoScalingGroup ${group} not found`)
    if (activeOf(group))
      return refusal(
        'An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.',
        'InstanceRefreshInProgress',
      )
    const at = 'DesiredConfiguration.LaunchTemplate.'
    const [id, version] = [form.get(`${at}LaunchTemplateId`) ?? '', form.get(`${at}Version`) ?? '']
    const autoRollback = form.get('Preferences.AutoRollback') === 'true'
    const own = found.LaunchTemplate
    if (autoRollback && (version === '' || version.startsWith('$') || own?.Version?.startsWith('$')))
      return refusal("AutoRollback cannot be used with a launch template version of '$Latest' or '$Default'")
    const [min, max] = ['Min', 'Max'].map((which) => form.get(`Preferences.${which}HealthyPercentage`))
    if (max && !min) return refusal('MaxHealthyPercentage needs MinHealthyPercentage')
    if (Number(max ?? 100) - Number(min ?? 90) > 100)
      return refusal('The difference between MinHealthyPercentage and MaxHealthyPercentage cannot be greater than 100')
    // "If the alarm state is INSUFFICIENT_DATA or ALARM, you receive an error when you try to start the instance refresh" (User Guide, auto rollback).
    const alarm = form.get('Preferences.AlarmSpecification.Alarms.member.1') ?? ''
    if (state.alarms.has(alarm)) return refusal(`The CloudWatch alarm ${alarm} is in ALARM state`)
    const refresh: Refresh = {
      ...{ id: randomUUID(), group, status: 'Pending', autoRollback, percent: 0, left: found.Instances?.length ?? 0 },
      ...{ template: { id, version }, bakeTime: Number(form.get('Preferences.BakeTime') ?? 0) },
      ...(own && { before: { id: own.LaunchTemplateId!, version: own.Version! } }),
    }
    all.unshift(refresh)
    return answerOf('StartInstanceRefresh', `<InstanceRefreshId>${refresh.id}</InstanceRefreshId>`)
  }

  /** moto launches another one, from the group's launch template as it is then. */
  async function replace(group: string, template: Refresh['template']): Promise<void> {
    const found = await groupOf(group)
    const before = found?.LaunchTemplate
    const LaunchTemplate = (named: Refresh['template']) => ({ LaunchTemplateId: named!.id, Version: named!.version })
    const update = (named: Refresh['template']) =>
      client.send(new UpdateAutoScalingGroupCommand({ AutoScalingGroupName: group, LaunchTemplate: LaunchTemplate(named) }))
    await update(template)
    for (const { InstanceId } of found?.Instances ?? [])
      await client.send(
        new TerminateInstanceInAutoScalingGroupCommand({ InstanceId: InstanceId!, ShouldDecrementDesiredCapacity: false }),
      )
    await note(group)
    if (before) await update({ id: before.LaunchTemplateId!, version: before.Version! })
  }

  /** What the next look sees. */
  async function goOn(refresh: Refresh): Promise<void> {
    const { status, group } = refresh
    if (!ACTIVE.has(status) || status === state.hold) return
    if (status === 'Pending') Object.assign(refresh, { status: 'InProgress', percent: 0 })
    else if (status === 'InProgress' && state.sick !== undefined) {
      const next = refresh.autoRollback ? 'RollbackInProgress' : 'Failed'
      Object.assign(refresh, {
        status: next,
        percent: 50,
        ...(next === 'Failed' ? { reason: state.sick } : { rollback: { reason: state.sick, percent: 50, left: 1 } }),
      })
    } else if (status === 'InProgress' && refresh.percent === 0)
      Object.assign(refresh, { percent: 50, left: Math.ceil(refresh.left / 2) })
    else if (status === 'InProgress') {
      await replace(group, refresh.template)
      Object.assign(refresh, { status: refresh.bakeTime > 0 ? 'Baking' : 'Successful', percent: 100, left: 0 })
    } else if (status === 'Baking') refresh.status = 'Successful'
    else if (status === 'RollbackInProgress') {
      await replace(group, refresh.before)
      Object.assign(refresh, { status: 'RollbackSuccessful', percent: 0 })
    } else if (status === 'Cancelling') refresh.status = 'Cancelled'
    if (refresh.status === 'Successful' && refresh.template)
      await client.send(
        new UpdateAutoScalingGroupCommand({
          AutoScalingGroupName: group,
          LaunchTemplate: { LaunchTemplateId: refresh.template.id, Version: refresh.template.version },
        }),
      )
  }

  /** Two looks at once would each see the same state and replace the instances twice over each other. */
  let looks = Promise.resolve()
  const inTurn = (look: () => Promise<void>): Promise<void> => {
    const turn = looks.then(look)
    looks = turn.catch(() => undefined)
    return turn
  }

  async function describe(group: string): Promise<Answer> {
    if (!(await groupOf(group))) return refusal(`AutoScalingGroup name not found - AutoScalingGroup ${group} not found`)
    const found = all.filter((refresh) => refresh.group === group)
    await inTurn(async () => {
      for (const refresh of found) await goOn(refresh)
    })
    const tag = (name: string, value: string | number | undefined) => (value === undefined ? '' : `<${name}>${value}</${name}>`)
    const members = found.map(({ id, status, reason, percent, left, template, rollback }) =>
      [
        `<member>${tag('InstanceRefreshId', id)}${tag('AutoScalingGroupName', group)}${tag('Status', status)}${tag('StatusReason', reason)}`,
        `${tag('PercentageComplete', percent)}${tag('InstancesToUpdate', left)}`,
        template
          ? `<DesiredConfiguration><LaunchTemplate>${tag('LaunchTemplateId', template.id)}${tag('Version', template.version)}</LaunchTemplate></DesiredConfiguration>`
          : '',
        rollback
          ? `<RollbackDetails>${tag('RollbackReason', rollback.reason)}${tag('PercentageCompleteOnRollback', rollback.percent)}${tag('InstancesToUpdateOnRollback', rollback.left)}</RollbackDetails>`
          : '',
        '</member>',
      ].join(''),
    )
    return answerOf('DescribeInstanceRefreshes', `<InstanceRefreshes>${members.join('')}</InstanceRefreshes>`)
  }

  function turn(action: string, group: string, status: string): Answer {
    const refresh = activeOf(group)
    if (!refresh)
      return refusal(
        `No in progress or pending Instance Refresh found for Auto Scaling group ${group}`,
        'ActiveInstanceRefreshNotFound',
      )
    if (status === 'RollbackInProgress' && refresh.template === undefined)
      return refusal('The Instance Refresh has no desired configuration', 'IrreversibleInstanceRefresh')
    Object.assign(refresh, {
      status,
      ...(status === 'RollbackInProgress' && { rollback: { percent: refresh.percent, left: refresh.left } }),
    })
    return answerOf(action, `<InstanceRefreshId>${refresh.id}</InstanceRefreshId>`)
  }

  const gaps = await startScalingGaps(moto, {
    forwarded: FORWARDED,
    async change(action, form, body) {
      const group = form.get('AutoScalingGroupNames.member.1')
      if (action !== 'DescribeAutoScalingGroups' || group === null) return body
      await note(group)
      return body.replaceAll(/<InstanceId>(i-[0-9a-f]+)<\/InstanceId>[\s\S]*?<\/member>/g, (member, id: string) =>
        member.replace(/<Version>[^<]*<\/Version>/, `<Version>${versions.get(id)}</Version>`),
      )
    },
    async own(action, form) {
      const group = form.get('AutoScalingGroupName') ?? ''
      if (state.denied.has(action))
        return refusal(`User: arn:aws:iam::1:user/a is not authorized to perform: autoscaling:${action}`, 'AccessDenied', 403)
      if (action === 'DescribeInstanceRefreshes') return describe(group)
      if (!CALLS.includes(action)) return undefined
      state.changes.push({ action, form })
      const answer =
        action === 'StartInstanceRefresh'
          ? await start(group, form)
          : turn(action, group, action === 'CancelInstanceRefresh' ? 'Cancelling' : 'RollbackInProgress')
      // The client asks again by itself: each answer is lost.
      return state.lost.has(action) ? { status: 500, body: '' } : answer
    },
  })
  return Object.assign(state, gaps, {
    begin(group: string) {
      const common = { autoRollback: false, bakeTime: 0, percent: 0, left: 1 }
      all.unshift({ id: randomUUID(), group, status: 'InProgress', ...common })
    },
    count: (group: string) => all.filter((refresh) => refresh.group === group).length,
    cancel: (group: string) => void turn('CancelInstanceRefresh', group, 'Cancelling'),
  })
}
