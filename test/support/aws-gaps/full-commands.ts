import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { serve } from '../serve.ts'

/**
 * STAND-IN in front of the one for bake's own documents (run-command.ts), for AWS-RunShellScript. Written from https://docs.aws.amazon.com/systems-manager/latest/APIReference/: SendCommand,
 * ListCommands, GetCommandInvocation and DescribeInstanceInformation. Lines are run for real by sh, with a docker and a proof that only tell what they were
 * asked for: an instance is a directory. A command is listed one look after it was sent. Other calls are the other's.
 */
export interface TestCommands extends AsyncDisposable {
  readonly endpoint: string
  /** Comments of the commands that were sent, in order. */
  readonly sent: string[]
  /** Instances without an agent; `all`: none has one. */
  readonly offline: Set<string>
  /** Why services of new instances aren't well. */
  sick: string | undefined
  /** What `docker run` of migrate ends with. */
  migrateStatus: number
  /** Sent commands of migrate end at once with this status of Systems Manager's, and run nothing. */
  migrateEnds: string | undefined
  /** migrate goes on until this is false. */
  migrateHolds: boolean
  /** Answers to SendCommand of migrate get lost. */
  lost: boolean
  readonly denied: Set<string>
  /** Words of every `docker run`, on whatever instance. */
  runs(): Promise<string[]>
  /** As if nothing had been told. */
  reset(): Promise<void>
}

interface Command {
  id: string
  comment: string
  instances: string[]
  at: number
  looks: number
  status: string
  details: string
  code: number
  stdout: string
  stderr: string
}

const DOCKER = `#!/bin/bash
case "$1 $3" in
  'inspect {{.Config.Image}}') echo 127.0.0.1:1/shop/web@sha256:0000 ;;
  'inspect {{.Config.User}}') echo 1000 ;;
  inspect*) printf '%s\\0' PORT=3000 $'KEY=one\\ntwo' ;;
  *)
    for word in "$@"; do case $word in --env-file=*) variables=$(<"\${word#*=}") ;; esac; done
    printf '%s | %s | KEY=%q\\n' "$*" "$variables" "\${KEY-}" | sed -E 's/--env-file=[^ ]*/--env-file=F/' >>"$TEST_RUNS"
    while [ -e "$TEST_HOLD" ]; do sleep 0.05; done
    echo "migrated to $(<"$TEST_STATUS")"
    exit "$(<"$TEST_STATUS")"
    ;;
esac
`
const PROOF = `#!/bin/bash
[ ! -s "$TEST_SICK" ] || { cat "$TEST_SICK"; exit 1; }
echo 'web: healthy, 3 s after the start'
`

export async function startCommands(behind: string): Promise<TestCommands> {
  const dir = await mkdtemp(join(tmpdir(), 'bake-commands-'))
  const files = { runs: join(dir, 'runs'), hold: join(dir, 'hold'), status: join(dir, 'status'), sick: join(dir, 'sick') }
  for (const [name, script] of [
    ['bin/docker', DOCKER],
    ['lib/proof', PROOF],
  ] as const) {
    await mkdir(join(dir, name, '..'), { recursive: true })
    await writeFile(join(dir, name), script)
    await chmod(join(dir, name), 0o755)
  }
  const commands: Command[] = []
  const children = new Set<ReturnType<typeof spawn>>()
  const fresh = () => ({
    sick: undefined as string | undefined,
    migrateStatus: 0,
    migrateEnds: undefined as string | undefined,
    migrateHolds: false,
    lost: false,
  })
  const state = { sent: [] as string[], offline: new Set<string>(), denied: new Set<string>(), ...fresh() }
  const online = (id: string) => !state.offline.has('all') && !state.offline.has(id)

  async function run(command: Command, line: string): Promise<void> {
    const kept = join(dir, command.instances[0]!)
    await mkdir(kept, { recursive: true })
    await writeFile(files.status, String(state.migrateStatus))
    await writeFile(files.sick, state.sick ?? '')
    if (state.migrateHolds) await writeFile(files.hold, '')
    const env = {
      PATH: `${join(dir, 'bin')}:${process.env.PATH}`,
      ...{ BAKE_KEPT: kept, BAKE_LIB: join(dir, 'lib'), BAKE_RUN: kept },
      ...{ TEST_RUNS: files.runs, TEST_HOLD: files.hold, TEST_STATUS: files.status, TEST_SICK: files.sick },
    }
    const child = spawn('sh', ['-c', line], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    children.add(child)
    child.stdout.on('data', (data) => (command.stdout += data))
    child.stderr.on('data', (data) => (command.stderr += data))
    child.once('close', (code) => {
      children.delete(child)
      const ok = code === 0
      Object.assign(command, { status: ok ? 'Success' : 'Failed', details: ok ? 'Success' : 'Failed', code: code ?? -1 })
    })
  }

  const wrong = (code: string, message: string, status = 400) => ({ status, body: { __type: code, message } })

  async function send(body: Record<string, unknown>) {
    const { Comment = '', InstanceIds = [], DocumentName, Parameters, TimeoutSeconds = 3600 } = body
    const line = (Parameters as { commands: string[] }).commands.join('\n')
    const ids = InstanceIds as string[]
    if (DocumentName !== 'AWS-RunShellScript' || String(Comment).length > 100 || Number(TimeoutSeconds) < 30 || ids.length > 50)
      return wrong('ValidationException', 'the request is not what the API takes')
    // https://docs.aws.amazon.com/systems-manager/latest/userguide/documents-syntax-data-elements-parameters.html
    if (line.includes('{{')) return wrong('InvalidParameters', 'parameters are not replaced in parameters')
    if (ids.some((id) => !online(id))) return wrong('InvalidInstanceId', 'Instances not in a valid state for account')
    const command: Command = {
      ...{ id: randomUUID(), comment: String(Comment), instances: ids, at: Date.now(), looks: 0 },
      ...{ status: 'InProgress', details: 'InProgress', code: -1, stdout: '', stderr: '' },
    }
    commands.unshift(command)
    state.sent.push(command.comment)
    if (state.migrateEnds !== undefined && command.comment.startsWith('bake migrate'))
      Object.assign(command, { status: state.migrateEnds, details: state.migrateEnds })
    else await run(command, line)
    return state.lost && command.comment.startsWith('bake migrate')
      ? { status: 500, body: {} }
      : { status: 200, body: { Command: { CommandId: command.id } } }
  }

  async function act(action: string, body: Record<string, unknown>): Promise<{ status: number; body: object } | undefined> {
    if (state.denied.has(action)) return wrong('AccessDeniedException', `User is not authorized to perform: ssm:${action}`, 403)
    if (action === 'SendCommand') return await send(body)
    if (action === 'ListCommands') {
      const after = (body.Filters as { key: string; value: string }[]).find(({ key }) => key === 'InvokedAfter')!.value
      const found = commands.filter((command) => command.at > Date.parse(after) && command.looks++ > 0)
      return { status: 200, body: { Commands: found.map(({ id, comment }) => ({ CommandId: id, Comment: comment })) } }
    }
    if (action === 'GetCommandInvocation') {
      const command = commands.find(({ id }) => id === body.CommandId)
      if (!command || command.looks++ === 0) return wrong('InvocationDoesNotExist', 'it is not there yet')
      if (!state.migrateHolds) await rm(files.hold, { force: true })
      return {
        status: 200,
        body: {
          ...{ CommandId: command.id, InstanceId: body.InstanceId, Status: command.status, StatusDetails: command.details },
          ...{ ResponseCode: command.code, StandardOutputContent: command.stdout, StandardErrorContent: command.stderr },
        },
      }
    }
    if (action === 'DescribeInstanceInformation') {
      const ids = (body.Filters as { Key: string; Values: string[] }[])[0]!.Values
      const InstanceInformationList = ids.filter(online).map((InstanceId) => ({ InstanceId, PingStatus: 'Online' }))
      return { status: 200, body: { InstanceInformationList } }
    }
    return undefined
  }

  const server = createServer(async (request, response) => {
    const asked = await text(request)
    const action = String(request.headers['x-amz-target']).split('.')[1] ?? ''
    const reply = (status: number, told: string) =>
      response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' }).end(told)
    const answer = await act(action, JSON.parse(asked) as Record<string, unknown>)
    if (answer) return reply(answer.status, JSON.stringify(answer.body))
    const kept = ['authorization', 'content-type', 'x-amz-date', 'x-amz-target']
    const headers = Object.fromEntries(kept.map((name) => [name, String(request.headers[name])]))
    const passed = await fetch(behind, { method: 'POST', headers, body: asked })
    reply(passed.status, await passed.text())
  })
  const { endpoint, close } = await serve(server)
  return Object.assign(state, {
    endpoint,
    runs: async () => (await readFile(files.runs, 'utf8').catch(() => '')).split('\n').filter((line) => line !== ''),
    async reset() {
      Object.assign(state, fresh())
      state.sent.length = 0
      state.offline.clear()
      state.denied.clear()
      for (const file of Object.values(files)) await rm(file, { force: true })
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) child.kill('SIGKILL')
      await close()
      await rm(dir, { recursive: true, force: true })
    },
  })
}
