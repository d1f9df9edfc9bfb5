import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { startHookServer } from '../support/hook-server.ts'
import { makeProject, type TestProject, WEB_FILES } from '../support/project.ts'

/**
 * The shell lines of examples/ci, word for word, as a runner would run them: in an empty directory, with `bake` on PATH in place of `npm install`, a real
 * server in place of the git host's API, and one machine in place of AWS.
 */

const root = fileURLToPath(new URL('../..', import.meta.url))
const example = async (name: string) => parse(await readFile(join(root, 'examples/ci', name), 'utf8'))

async function runner(project: TestProject) {
  const dir = await mkdtemp(join(tmpdir(), 'bake-ci-'))
  await mkdir(join(dir, 'bin'))
  const bake = `#!/bin/sh\nexec '${process.execPath}' --disable-warning=ExperimentalWarning '${root}bin/dev.js' "$@"\n`
  await writeFile(join(dir, 'bin/bake'), bake)
  await chmod(join(dir, 'bin/bake'), 0o755)
  await mkdir(join(dir, 'work'))
  const env = {
    PATH: `${join(dir, 'bin')}:${process.env.PATH}`,
    HOME: dir,
    BAKE_HOST_LINGER_MS: '1500',
    BAKE_STATE_DIR: join(project.dir, '.bake'),
    BAKE_REPOSITORY: project.dir,
  }
  return {
    path: (name: string) => join(dir, 'work', name),
    home: dir,
    run: (shell: string[], script: string, more: Record<string, string>) =>
      new Promise<{ code: number; stderr: string }>((resolve) => {
        const [command = '', ...args] = shell
        execFile(command, [...args, script], { cwd: join(dir, 'work'), env: { ...env, ...more } }, (error, _, stderr) =>
          resolve({ code: error === null ? 0 : Number(error.code), stderr }),
        )
      }),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  }
}

/** Several builds, on a machine that may be busy. */
const TIMEOUT = 300_000

/** What GitHub runs `run:` with: https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell */
const GITHUB_SHELL = ['bash', '-e', '-c']

test('the workflow for GitHub Actions builds the commit and sets its status, without a checkout', {
  timeout: TIMEOUT,
}, async () => {
  const workflow = await example('github-actions.yml')
  const steps = workflow.jobs.images.steps as { name?: string; uses?: string; run?: string }[]
  expect(steps.some(({ uses }) => uses?.startsWith('actions/checkout'))).toBe(false)
  const step = (name: string) => steps.find((each) => each.name === name)!.run!

  await using server = await startHookServer((_, response) => void response.writeHead(201).end('{}'))
  await using project = await makeProject({
    ...WEB_FILES,
    'bake.yaml': 'project: shop\nimages:\n  web: { context: web }\n  bad: { context: bad }\n',
    'bad/Dockerfile': 'FROM localhost/bakehouse/base:bookworm\nRUN echo broken && false\n',
  })
  await using it = await runner(project)
  const sha = await project.repo.git('rev-parse', 'HEAD')
  const env = {
    GITHUB_SHA: sha,
    GITHUB_REF_NAME: 'main',
    GITHUB_SERVER_URL: 'https://git.example.com',
    GITHUB_API_URL: server.url,
    GITHUB_REPOSITORY: 'acme/shop',
    GITHUB_TOKEN: 'token-of-the-job',
    GITHUB_OUTPUT: it.path('output'),
  }
  expect(await it.run(GITHUB_SHELL, step('Let git read the repository'), env)).toMatchObject({ code: 0 })
  const credential = 'printf "protocol=https\\nhost=git.example.com\\n\\n" | git credential fill > credential'
  expect(await it.run(GITHUB_SHELL, credential, env)).toMatchObject({ code: 0 })
  expect(await readFile(it.path('credential'), 'utf8')).toContain('username=x-access-token\npassword=token-of-the-job\n')

  const images = await it.run(GITHUB_SHELL, step('Images'), env)
  expect(images.code, images.stderr).toBe(3)
  expect(await it.run(GITHUB_SHELL, step('Commit status'), env)).toMatchObject({ code: 0, stderr: '' })
  const digest = await project.tagged(`sha-${sha}`)
  expect(await project.tagged('branch-main')).toBe(digest)
  expect(server.calls.map(({ path }) => path)).toEqual(Array(2).fill(`/repos/acme/shop/statuses/${sha}`))
  expect(server.calls[0]!.headers.authorization).toBe('Bearer token-of-the-job')
  expect(server.calls.map(({ body }) => JSON.parse(body))).toEqual([
    { context: 'image/web', state: 'success', description: digest },
    { context: 'image/bad', state: 'failure', description: expect.stringMatching(/exit code/) },
  ])
  const [, output = ''] = /^images=(.*)$/m.exec(await readFile(env.GITHUB_OUTPUT, 'utf8')) ?? []
  expect(JSON.parse(output)).toEqual({ web: expect.stringMatching(new RegExp(`^localhost:\\d+/shop/web@${digest}$`)) })

  // What is refused before there are images has a status too.
  const unknown = { ...env, GITHUB_SHA: 'a'.repeat(40) }
  expect((await it.run(GITHUB_SHELL, step('Images'), unknown)).code).toBe(2)
  expect(await it.run(GITHUB_SHELL, step('Commit status'), unknown)).toMatchObject({ code: 0 })
  expect(JSON.parse(server.calls.at(-1)!.body)).toEqual({
    context: 'image/bake',
    state: 'failure',
    description: expect.stringMatching(/is not in/),
  })
})

test('the job for GitLab CI builds the commit and hands its images on, without a checkout', { timeout: TIMEOUT }, async () => {
  const { images: job } = await example('gitlab-ci.yml')
  expect(job.variables.GIT_STRATEGY).toBe('none')
  const lines = job.script as string[]
  await using project = await makeProject()
  await using it = await runner(project)
  const sha = await project.repo.git('rev-parse', 'HEAD')
  const env = {
    AWS_TOKEN: 'a.b.c',
    AWS_WEB_IDENTITY_TOKEN_FILE: it.path('aws-token'),
    CI_SERVER_URL: 'https://git.example.com',
    CI_JOB_TOKEN: 'token-of-the-job',
    CI_COMMIT_SHA: sha,
    CI_COMMIT_BRANCH: 'main',
  }
  // GitLab runs all lines in one shell, until one fails.
  const script = lines.filter((line) => !line.startsWith('npm install')).join('\n')
  expect(script.split('\n').length).toBe(lines.length - 1)
  const { code, stderr } = await it.run(['bash', '-eo', 'pipefail', '-c'], script, env)
  expect(code, stderr).toBe(0)
  expect(await readFile(it.path('aws-token'), 'utf8')).toBe('a.b.c')
  const digest = await project.tagged(`sha-${sha}`)
  expect(await readFile(it.path('images.env'), 'utf8')).toMatch(new RegExp(`^IMAGE_WEB=localhost:\\d+/shop/web@${digest}\n$`))
})
