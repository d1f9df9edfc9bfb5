import { createServer, type IncomingHttpHeaders } from 'node:http'
import { text } from 'node:stream/consumers'
import { serve } from '../serve.ts'
import { EbsStore } from './ebs-store.ts'
import { ImageGaps } from './ec2-images.ts'
import { SnapshotGaps } from './ec2-snapshots.ts'
import { TemplateGaps } from './ec2-templates.ts'
import { type Answer, answerOf, escaped, refusal } from './ec2-wire.ts'

/**
 * STAND-IN in front of moto's EC2 for what that lacks or doesn't check, written from https://docs.aws.amazon.com/AWSEC2/latest/APIReference/: deprecation and
 * deregistration protection of images and their IMDS version, tags, keys and states of copies (ec2-images.ts), versions of launch templates with a source
 * (ec2-templates.ts), snapshots of the EBS direct APIs and images of them (ec2-snapshots.ts), the console's text, client tokens, DryRun, and permissions. Other calls that bake and Packer make go to moto; a call that it doesn't know is
 * refused and fails the test at the end.
 */
export interface Ec2Gaps extends AsyncDisposable {
  /** `http://127.0.0.1:<port>`, for AWS_ENDPOINT_URL_EC2. */
  readonly endpoint: string
  /** What an instance has written to its console so far; `looks` counts the calls for it. Nothing unless told. */
  console: (instance: string, looks: number) => string
  /** IAM actions without `ec2:` that nobody may use. */
  readonly denied: Set<string>
  /** What EC2 answers in moto's place: an error code for each call of an action; asked in order, undefined passes. */
  refuse: (action: string, form: URLSearchParams) => string | undefined
  /** Keys that copies may be encrypted with; all others end as failed copies. */
  readonly kmsKeys: Set<string>
  /** How often a copy is told of as pending before it is available. */
  pendingLooks: number
  /** Snapshots, for the stand-in of the EBS direct APIs too. */
  readonly store: EbsStore
  /** Calls so far, by action. */
  readonly calls: Record<string, number>
  /** Forms of the calls so far that changed something, in order. */
  readonly changes: { action: string; region: string; form: URLSearchParams }[]
}

/** What bake sends that moto does as the document says. */
const BAKES = [
  'AssociateRouteTable',
  'AuthorizeSecurityGroupEgress',
  'AuthorizeSecurityGroupIngress',
  'CreateSecurityGroup',
  'CreateSubnet',
  'CreateTags',
  'CreateVpc',
  'DeleteKeyPair',
  'DeleteRoute',
  'DeleteSecurityGroup',
  'DeleteTags',
  'DeleteVolume',
  'DescribeAvailabilityZones',
  'DescribeImageAttribute',
  'DescribeInstances',
  'DescribeInstanceTypeOfferings',
  'DescribeInstanceTypes',
  'DescribeKeyPairs',
  'DescribeRouteTables',
  'DescribeSecurityGroups',
  'DescribeSubnets',
  'DescribeVolumes',
  'DescribeVpcAttribute',
  'DescribeVpcs',
  'ModifyVpcAttribute',
  'RevokeSecurityGroupEgress',
  'RevokeSecurityGroupIngress',
  'RunInstances',
  'TerminateInstances',
]
/** What Packer's amazon-ebs sends besides, and what tests make by hand. */
const OTHERS = [
  'CreateImage',
  'CreateInternetGateway',
  'AttachInternetGateway',
  'CreateKeyPair',
  'CreateRoute',
  'CreateSnapshot',
  'CreateVolume',
  'DescribeRegions',
  'DescribeInstanceStatus',
  'DescribeTags',
  'ImportKeyPair',
  'ModifyInstanceAttribute',
  'ModifySnapshotAttribute',
  'StopInstances',
]
const FORWARDED = new Set([...BAKES, ...OTHERS])
const READS = /^(?:Describe|Get)/

/** A call as it came, and the way to moto for it and for what it needs besides. */
export interface Call {
  action: string
  region: string
  form: URLSearchParams
  ask(form: URLSearchParams | Record<string, string>): Promise<Answer>
  /** The way to moto in another region. */
  in(region: string): Pick<Call, 'ask'>
}

export async function startEc2Gaps(moto: string): Promise<Ec2Gaps> {
  const unknown = new Set<string>()
  const looks = new Map<string, number>()
  const tokens = new Map<string, { form: string; answer: Promise<Answer> }>()
  const gaps = {
    console: (() => '') as Ec2Gaps['console'],
    refuse: (() => undefined) as Ec2Gaps['refuse'],
    denied: new Set<string>(),
    kmsKeys: new Set<string>(),
    pendingLooks: 0,
    calls: {} as Record<string, number>,
    changes: [] as Ec2Gaps['changes'],
  }
  const store = new EbsStore()
  const snapshots = new SnapshotGaps(store)
  const images = new ImageGaps(gaps, snapshots)
  const templates = new TemplateGaps()

  async function answer(call: Call): Promise<Answer> {
    const { action, region, form } = call
    gaps.calls[action] = (gaps.calls[action] ?? 0) + 1
    if (gaps.denied.has(action)) return unauthorized(action)
    if (gaps.denied.has('CreateTags') && form.has('TagSpecification.1.ResourceType')) return unauthorized('CreateTags')
    for (let n = 1; form.has(`TagSpecification.${n}.ResourceType`); n++)
      if (!form.has(`TagSpecification.${n}.Tag.1.Key`))
        return refusal('InvalidParameterValue', 'Tag specification must have at least one tag')
    const code = gaps.refuse(action, form)
    if (code !== undefined)
      return refusal(code, 'the stand-in was told to refuse it', code === 'InsufficientInstanceCapacity' ? 500 : 400)
    if (form.get('DryRun') === 'true')
      return refusal('DryRunOperation', 'Request would have succeeded, but DryRun flag is set.', 412)
    if (!READS.test(action)) gaps.changes.push({ action, region, form: new URLSearchParams(form) })
    return withToken(call, async () => {
      if (action === 'GetConsoleOutput') return consoleOf(form.get('InstanceId') ?? '')
      const special = (await snapshots.answer(call)) ?? (await images.answer(call)) ?? (await templates.answer(call))
      if (special !== undefined) return special
      if (action === 'RunInstances') return runInstances(call)
      if (FORWARDED.has(action)) return call.ask(form)
      unknown.add(action)
      return refusal('InvalidAction', `the stand-in doesn't know ${action}`)
    })
  }

  /**
   * API_RunInstances, API_EbsBlockDevice: what a mapping doesn't say of the image's own root volume is the image's; moto asks for a size. And the image must be
   * there, which moto doesn't ask.
   */
  async function runInstances(call: Call): Promise<Answer> {
    const { form } = call
    // From a launch template it comes without an image of its own.
    const image = form.get('ImageId')
    const missing = image === null ? undefined : await images.missing(call, image)
    if (missing !== undefined) return missing
    const partial = !form.has('BlockDeviceMapping.1.Ebs.VolumeSize') && !form.has('BlockDeviceMapping.1.Ebs.SnapshotId')
    return call.ask(new URLSearchParams([...form].filter(([name]) => !(partial && name.startsWith('BlockDeviceMapping.')))))
  }

  /** https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html */
  async function withToken({ action, region, form }: Call, send: () => Promise<Answer>): Promise<Answer> {
    const token = form.get('ClientToken')
    if (token === null) return send()
    const key = `${region} ${action} ${token}`
    const earlier = tokens.get(key)
    if (earlier !== undefined && earlier.form !== form.toString())
      return refusal('IdempotentParameterMismatch', 'The token was used with other parameters')
    const made = earlier?.answer ?? send()
    tokens.set(key, { form: form.toString(), answer: made })
    if ((await made).status !== 200) tokens.delete(key)
    return made
  }

  function consoleOf(instance: string): Answer {
    const look = (looks.get(instance) ?? 0) + 1
    looks.set(instance, look)
    const output = Buffer.from(gaps.console(instance, look)).subarray(-65_536).toString('base64')
    const inner = `<instanceId>${escaped(instance)}</instanceId><timestamp>${new Date().toISOString()}</timestamp>`
    return answerOf('GetConsoleOutput', output === '' ? inner : `${inner}<output>${output}</output>`)
  }

  const server = createServer(async (request, response) => {
    try {
      const form = new URLSearchParams(await text(request))
      const region = /Credential=[^/]*\/\d+\/([^/]+)\//.exec(request.headers.authorization ?? '')?.[1] ?? 'us-east-1'
      const askAs = (headers: IncomingHttpHeaders) => (body: URLSearchParams | Record<string, string>) =>
        forward(moto, headers, new URLSearchParams(body))
      const elsewhere = (other: string) => {
        const authorization = request.headers.authorization?.replace(`/${region}/`, `/${other}/`)
        return { ask: askAs({ ...request.headers, ...(authorization && { authorization }) }) }
      }
      const call = { action: form.get('Action') ?? '', region, form, ask: askAs(request.headers), in: elsewhere }
      const { status, body } = await answer(call)
      response.writeHead(status, { 'content-type': 'text/xml;charset=UTF-8' }).end(body)
    } catch {
      response.destroy()
    }
  })
  const { endpoint, close } = await serve(server)
  return Object.assign(gaps, {
    endpoint,
    store,
    async [Symbol.asyncDispose]() {
      await close()
      await store[Symbol.asyncDispose]()
      if (unknown.size > 0) throw new Error(`calls that the stand-in for EC2 doesn't know: ${[...unknown].join(', ')}`)
    },
  })
}

async function forward(moto: string, sent: IncomingHttpHeaders, form: URLSearchParams): Promise<Answer> {
  if (!form.has('Version')) form.set('Version', '2016-11-15')
  const kept = ['authorization', 'x-amz-date', 'content-type', 'user-agent']
  const headers = Object.fromEntries(kept.flatMap((name) => (sent[name] ? [[name, String(sent[name])]] : [])))
  const answer = await fetch(moto, { method: 'POST', headers, body: form.toString() })
  return { status: answer.status, body: await answer.text() }
}

/** As EC2 words it since 2024: with the action, and a message that only sts:DecodeAuthorizationMessage can read. */
const unauthorized = (action: string): Answer =>
  refusal(
    'UnauthorizedOperation',
    `You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ec2:${action} on resource: * because no identity-based policy allows the ec2:${action} action. Encoded authorization failure message: ${'Zm9v'.repeat(40)}`,
    403,
  )
