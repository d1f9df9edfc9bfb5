import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { serve } from '../serve.ts'
import type { Gaps } from './autoscaling-wire.ts'

/** What an instance's agent does with a script, as root. */
export type Agent = (script: string) => Promise<{ status: number; stdout: string; stderr: string }>

/**
 * STAND-IN in front of moto's Systems Manager for Run Command, written from https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_SendCommand.html,
 * API_ListCommandInvocations.html, API_GetCommandInvocation.html and API_DescribeInstanceInformation.html: documents are moto's; what they say is checked
 * against their own patterns, filled in and run by the agents of this test, all at once. Other calls that bake makes go to moto; a call that it doesn't know is
 * refused and fails the test at the end.
 */
export interface TestRunCommand extends Gaps {
  /** By instance id. One that is not here has no agent. */
  readonly agents: Map<string, Agent>
  /** Instances that are lost as soon as they have a command. */
  readonly lost: Set<string>
  /** Instances that ended since they were looked at: a command that names one is refused as a whole. */
  readonly ended: Set<string>
  readonly denied: Set<string>
  readonly sent: { instances: string[]; parameters: Record<string, string>; comment: string; version: string }[]
}

interface Invocation {
  status: string
  detail: string
  code: number
  stdout: string
  stderr: string
}
interface Document {
  parameters: Record<string, { default?: string; allowedPattern?: string; allowedValues?: string[] }>
  mainSteps: { inputs: { runCommand: string[] } }[]
}

const TARGET = 'AmazonSSM.'
const FORWARDED = new Set([
  ...['CreateDocument', 'GetDocument', 'UpdateDocument', 'UpdateDocumentDefaultVersion'],
  ...['DeleteParameter', 'GetParameter', 'PutParameter'],
])
/** Of what GetCommandInvocation gives. */
const MOST_OUTPUT = 24_000

export async function startRunCommand(moto: string): Promise<TestRunCommand> {
  const agents = new Map<string, Agent>()
  const [lost, denied, ended, unknown] = [new Set<string>(), new Set<string>(), new Set<string>(), [] as string[]]
  const sent: TestRunCommand['sent'] = []
  const commands = new Map<string, Map<string, Invocation>>()

  async function send(body: Record<string, unknown>, forward: (action: string, body: object) => Promise<Response>) {
    const instances = body.InstanceIds as string[]
    const got = await forward('GetDocument', { Name: body.DocumentName, DocumentVersion: body.DocumentVersion })
    if (!got.ok) return refusal('InvalidDocument', 'there is no such document')
    const { Content } = (await got.json()) as { Content: string }
    const document = JSON.parse(Content) as Document
    const given = Object.fromEntries(
      Object.entries((body.Parameters ?? {}) as Record<string, string[]>).map(([name, [value]]) => [name, value!]),
    )
    for (const [name, value] of Object.entries(given)) {
      const { allowedPattern, allowedValues } = document.parameters[name] ?? { allowedValues: [] }
      if (allowedValues?.includes(value) === false || (allowedPattern && !new RegExp(allowedPattern).test(value)))
        return refusal('InvalidParameters', `${name} is not allowed: ${value}`)
    }
    const known = instances.filter((id) => agents.has(id) && !ended.has(id))
    if (known.length < instances.length) return refusal('InvalidInstanceId', 'Instances not in a valid state for account')
    const defaults = Object.entries(document.parameters).map(([name, { default: value = '' }]) => [name, value])
    const values = { ...Object.fromEntries(defaults), ...given } as Record<string, string>
    const script = document.mainSteps[0]!.inputs.runCommand.join('\n').replace(
      /\{\{ (\w+) \}\}/g,
      (_, name: string) => values[name]!,
    )
    const id = randomUUID()
    const parts = new Map<string, Invocation>()
    commands.set(id, parts)
    sent.push({ instances, parameters: values, comment: String(body.Comment), version: String(body.DocumentVersion) })
    for (const instance of instances) {
      const part = { status: 'InProgress', detail: 'InProgress', code: -1, stdout: '', stderr: '' }
      parts.set(instance, part)
      if (lost.has(instance)) Object.assign(part, { status: 'TimedOut', detail: 'DeliveryTimedOut' })
      else
        void agents.get(instance)!(script).then(({ status, stdout, stderr }) => {
          const word = status === 0 ? 'Success' : 'Failed'
          const said = status === 0 ? stderr : `${stderr}\nfailed to run commands: exit status ${status}`
          Object.assign(part, {
            status: word,
            detail: word,
            code: status,
            stdout: stdout.slice(0, MOST_OUTPUT),
            stderr: said.slice(0, MOST_OUTPUT),
          })
        })
    }
    return answer({ Command: { CommandId: id } })
  }

  const own: Record<string, (body: Record<string, unknown>) => { status: number; body: object }> = {
    ListCommandInvocations: ({ CommandId }) => {
      const parts = [...(commands.get(String(CommandId)) ?? [])]
      return answer({
        CommandInvocations: parts.map(([InstanceId, { status, detail }]) => ({
          CommandId,
          InstanceId,
          Status: status,
          StatusDetails: detail,
        })),
      })
    },
    GetCommandInvocation: ({ CommandId, InstanceId }) => {
      const part = commands.get(String(CommandId))?.get(String(InstanceId))
      if (!part) return refusal('InvocationDoesNotExist', '')
      const { status, detail, code, stdout, stderr } = part
      return answer({
        ...{ CommandId, InstanceId, Status: status, StatusDetails: detail, ResponseCode: code },
        ...{ StandardOutputContent: stdout, StandardErrorContent: stderr },
      })
    },
    DescribeInstanceInformation: ({ Filters }) => {
      const [{ Values = [] } = {}] = Filters as { Values?: string[] }[]
      const online = Values.filter((id) => agents.has(id))
      return answer({ InstanceInformationList: online.map((InstanceId) => ({ InstanceId, PingStatus: 'Online' })) })
    },
  }

  const server = createServer(async (request, response) => {
    const body = await text(request)
    const action = String(request.headers['x-amz-target']).replace(TARGET, '')
    const reply = ({ status, body: told }: { status: number; body: object | string }) =>
      response
        .writeHead(status, { 'content-type': 'application/x-amz-json-1.1' })
        .end(typeof told === 'string' ? told : JSON.stringify(told))
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => !['host', 'content-length', 'connection'].includes(name)),
    ) as Record<string, string>
    const forward = (what: string, content: object | string) =>
      fetch(moto, {
        method: 'POST',
        headers: { ...headers, 'x-amz-target': TARGET + what },
        body: typeof content === 'string' ? content : JSON.stringify(content),
      })
    if (denied.has(action)) return reply(refusal('AccessDeniedException', `not authorized to perform: ssm:${action}`))
    if (action === 'SendCommand') return reply(await send(JSON.parse(body), forward))
    if (own[action]) return reply(own[action](JSON.parse(body)))
    if (!FORWARDED.has(action)) {
      unknown.push(action)
      return reply(refusal('InvalidAction', `the stand-in doesn't know ${action}`))
    }
    const passed = await forward(action, body)
    reply({ status: passed.status, body: await passed.text() })
  })
  const { endpoint, close } = await serve(server)
  return {
    ...{ agents, lost, denied, ended, sent },
    endpoint,
    async [Symbol.asyncDispose]() {
      await close()
      if (unknown.length > 0) throw new Error(`calls that the stand-in for Systems Manager doesn't know: ${unknown.join(', ')}`)
    },
  }
}

const answer = (body: object) => ({ status: 200, body })
const refusal = (code: string, message: string) => ({ status: 400, body: { __type: code, message } })
