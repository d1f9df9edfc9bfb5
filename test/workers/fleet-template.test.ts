import { beforeAll, describe, expect, test } from 'vitest'
import { queueName } from '../../src/io/queue-sqs.ts'
import { policiesFor, type Statement } from '../../src/setup/policies.ts'
import { evaluate, GIVEN, type Loose, readTemplate, readWorkersFile, type Table, type Template } from './template.ts'

/**
 * Properties of the resources that moto's CloudFormation passes over, from their pages in
 * https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-template-resource-type-ref.html: a name that isn't there is a mistake.
 */
const KNOWN: Record<string, string[]> = {
  'AWS::AutoScaling::ScalingPolicy': 'AutoScalingGroupName EstimatedInstanceWarmup PolicyType TargetTrackingConfiguration'.split(
    ' ',
  ),
  'AWS::CloudWatch::Alarm':
    'AlarmActions AlarmDescription ComparisonOperator Dimensions EvaluationPeriods MetricName Namespace OKActions Period Statistic Threshold TreatMissingData'.split(
      ' ',
    ),
  'AWS::S3::BucketPolicy': ['Bucket', 'PolicyDocument'],
  'AWS::SNS::Subscription': ['Endpoint', 'Protocol', 'TopicArn'],
}
/** CloudFormation takes no more in a request; a launch template takes 16 KiB of user data before base64. */
const MAX_TEMPLATE_BYTES = 51_200
const MAX_USER_DATA_BYTES = 16_384
/** Alarms, and so scaling policies, take no more metrics and expressions together. */
const MAX_METRICS = 10

let template: Template
beforeAll(() => {
  template = readTemplate()
})
const all = {
  Shards: '4',
  SecretsPath: '/shop',
  GitKeyParameter: '/bake/key',
  NoticeQueueArns: 'arn:aws:sqs:us-east-1:1:n',
  BakePolicyArns: 'arn:aws:iam::1:policy/baker,arn:aws:iam::1:policy/prover',
  AlarmEmail: 'a@b',
}
const properties = (parameters: Record<string, string>, name: string) =>
  evaluate(template, { ...GIVEN, ...parameters }).resources[name]!.Properties as Loose

describe('workers/fleet.yaml', () => {
  test('names nothing that is not there, whatever is chosen', () => {
    for (const Shards of ['1', '2', '3', '4'])
      for (const Storage of ['create', 'existing'])
        for (const CacheVolumeGiB of ['0', '200']) evaluate(template, { ...GIVEN, Shards, Storage, CacheVolumeGiB })
    expect(Object.keys(evaluate(template, { ...GIVEN, ...all }).resources)).toEqual(Object.keys(template.Resources))
  })

  test('uses every parameter and condition', () => {
    const { Parameters, Conditions, ...rest } = template
    const body = JSON.stringify([rest, Conditions])
    for (const name of Object.keys(Parameters)) expect(body).toMatch(new RegExp(`"Ref":"${name}"|\\$\\{${name}\\}`))
    for (const name of Object.keys(Conditions)) expect(body).toMatch(new RegExp(`"(?:Condition|Fn::If)":\\[?"${name}"`))
  })

  test('fits what AWS takes', () => {
    expect(Buffer.byteLength(readWorkersFile('fleet.yaml'))).toBeLessThan(MAX_TEMPLATE_BYTES)
    const data = properties({ ...all, BakeYaml: 'x'.repeat(2048) }, 'LaunchTemplate').LaunchTemplateData.UserData
    expect(Buffer.from(data, 'base64').length).toBeLessThan(MAX_USER_DATA_BYTES)
  })

  test('gives resources that moto passes over no property that they do not have', () => {
    for (const [name, { Type, Properties }] of Object.entries(template.Resources))
      if (KNOWN[Type]) expect(KNOWN[Type], name).toEqual(expect.arrayContaining(Object.keys(Properties!)))
  })

  test("makes the queues and the ledger's rules that bake setup makes", async () => {
    const { desiredResources } = await import('../../src/setup/desired.ts')
    const desired = desiredResources(target(4))
    const { resources } = evaluate(template, { ...GIVEN, ...all })
    const queues = Object.values(resources).filter(({ Type }) => Type === 'AWS::SQS::Queue')
    const made = queues.map(({ Properties }) => queueSettings(Properties!))
    expect(made.sort(byName)).toEqual(
      desired
        .filter(({ kind }) => kind === 'queue')
        .map(({ name, settings }) => ({ name, ...settings }))
        .sort(byName),
    )
    const bucket = desired.find(({ kind }) => kind === 'bucket')!
    const rules = properties({}, 'Bucket').LifecycleConfiguration.Rules as Table[]
    const expiry = rules
      .filter(({ Prefix }) => Prefix !== undefined)
      .map(({ Prefix, ExpirationInDays }) => [Prefix, ExpirationInDays])
    expect(Object.fromEntries(expiry)).toEqual(bucket.settings.expiryDays)
  })

  test("gives the worker's role what bake setup --policies prints for a worker", () => {
    const role = properties({ ...all, Shards: '4' }, 'Role')
    const own = grants(role.Policies[0].PolicyDocument.Statement)
    const printed = grants(policiesFor(target(4)).worker.Statement)
    // Where the template has a group and paths, `bake setup` has a tag and names.
    const wider = [
      ['repository/shop/web', 'repository/shop/*'],
      ['repository/shop/bake-cache', 'repository/shop/*'],
      ['parameter/shop/npm', 'parameter/shop/*'],
      ['autoScalingGroupName/*', 'autoScalingGroupName/fleet-workers'],
    ] as const
    const expected = printed.map((grant) =>
      wider.reduce((text, [from, to]) => (text.endsWith(from) ? text.replace(from, to) : text), grant),
    )
    const gitKey = 'ssm:GetParameter arn:aws:ssm:us-east-1:123456789012:parameter/bake/key'
    expect(own).toEqual([...new Set([...expected, gitKey])].sort())
  })

  test('keeps instance credentials from what a Dockerfile runs, and asks for tokens', () => {
    expect(properties({}, 'LaunchTemplate').LaunchTemplateData.MetadataOptions).toEqual({
      HttpEndpoint: 'enabled',
      HttpTokens: 'required',
      HttpPutResponseHopLimit: 1,
    })
  })

  test('encrypts what it makes', () => {
    for (const { Ebs } of properties({}, 'LaunchTemplate').LaunchTemplateData.BlockDeviceMappings)
      expect(Ebs.Encrypted).toBe(true)
    expect(properties({}, 'Bucket').BucketEncryption).toBeDefined()
  })

  test('scales on the backlog per worker of all lanes and shards', () => {
    for (const shards of [1, 2, 3, 4]) {
      const { Metrics } = properties({ Shards: String(shards) }, 'Scaling').TargetTrackingConfiguration
        .CustomizedMetricSpecification
      expect(Metrics.length).toBeLessThanOrEqual(MAX_METRICS)
      const [expression, ...rest] = Metrics
      const watched = rest
        .flatMap((metric: Loose) => metric.MetricStat.Metric.Dimensions)
        .filter(({ Name }: Table) => Name === 'QueueName')
      expect(watched.map(({ Value }: Table) => Value).sort()).toEqual(queues(shards).sort())
      // Every metric is in the expression, and nothing else is.
      const ids = rest.map(({ Id }: Table) => Id)
      expect([...new Set(expression.Expression.match(/\b[a-z][a-z0-9]*\b/g))].sort()).toEqual(ids.sort())
      expect(Metrics.filter(({ ReturnData }: Table) => ReturnData)).toEqual([expression])
    }
  })

  test('holds an instance until its worker has drained', () => {
    const group = properties({}, 'Group')
    const [hook] = group.LifecycleHookSpecificationList
    expect(hook).toMatchObject({ LifecycleTransition: 'autoscaling:EC2_INSTANCE_TERMINATING', DefaultResult: 'CONTINUE' })
    // 100 heartbeats are the most: longer than the longest build, 180 minutes unless told.
    expect(hook.HeartbeatTimeout * 100).toBeGreaterThan(180 * 60)
    expect(userData({})).toContain(`BAKE_LIFECYCLE_HOOK=${hook.LifecycleHookName}`)
    expect(group.Tags).toContainEqual(expect.objectContaining({ Key: 'bake:fleet' }))
  })

  test('carries user-data.sh (node bin/write-fleet.js puts it there)', () => {
    const join = (template.Resources.LaunchTemplate!.Properties as Loose).LaunchTemplateData.UserData['Fn::Base64']['Fn::Join'][1]
    expect(join.at(-1)).toBe(readWorkersFile('user-data.sh'))
  })

  test('hands bake.yaml over as it is, quotes and all', () => {
    const BakeYaml = `project: "a'b"\n# $HOME \`id\`\n`
    const line = /^export BAKE_YAML_BASE64=(\S+)$/m.exec(
      decoded(properties({ BakeYaml }, 'LaunchTemplate').LaunchTemplateData.UserData),
    )
    expect(decoded(line![1]!)).toBe(BakeYaml)
  })
})

const decoded = (base64: string): string => Buffer.from(base64, 'base64').toString('utf8')
function userData(parameters: Record<string, string>): string {
  const script = decoded(properties(parameters, 'LaunchTemplate').LaunchTemplateData.UserData)
  return decoded(/^export BAKE_WORKER_ENV_BASE64=(\S+)$/m.exec(script)![1]!)
}

const queues = (shards: number): string[] =>
  (['normal', 'high'] as const).flatMap((lane) => Array.from({ length: shards }, (_, shard) => queueName('bake', lane, shard)))

const target = (shards: number) => ({
  partition: 'aws',
  aws: {
    region: 'us-east-1',
    bucket: 'acme-bake',
    ledgerPrefix: '',
    queues: [...queues(shards), queueName('bake', 'machine', 0)],
    deadQueue: 'bake-dead',
    parameters: ['/shop/npm'],
    noticeQueues: ['arn:aws:sqs:us-east-1:1:n'],
  },
  ecr: { account: '123456789012', region: 'us-east-1', images: ['shop/web'], cache: 'shop/bake-cache' },
})

/** `<action> <resource>` for each pair, sorted. */
const grants = (statements: Pick<Statement, 'Action' | 'Resource'>[]): string[] =>
  [
    ...new Set(
      statements.flatMap(({ Action, Resource }) =>
        [Action].flat().flatMap((action) => [Resource].flat().map((on) => `${action} ${on}`)),
      ),
    ),
  ].sort()

const byName = (a: { name: unknown }, b: { name: unknown }) => String(a.name).localeCompare(String(b.name))

/** A queue as `bake setup` describes it. */
function queueSettings(made: Table): { name: unknown } & Record<string, unknown> {
  const redrive = made.RedrivePolicy as Table | undefined
  return {
    name: made.QueueName,
    visibilitySeconds: made.VisibilityTimeout,
    longPollSeconds: made.ReceiveMessageWaitTimeSeconds,
    retentionSeconds: made.MessageRetentionPeriod,
    ...(redrive && { redrive: { to: 'bake-dead', afterReceives: redrive.maxReceiveCount } }),
    encrypted: made.SqsManagedSseEnabled,
  }
}
