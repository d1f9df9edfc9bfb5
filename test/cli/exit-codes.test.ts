import { expect, test } from 'vitest'
import { runFixture } from './support.ts'

const next = (code: string) => `next: try again\ncode=${code} build=1gd4x7k2m-8q3zt1\n`

test.for([
  ['refused', 2, 'sha_unknown', 'error: no such commit\n'],
  ['failed', 3, 'dockerfile_failed', 'error: RUN false\n'],
  ['unavailable', 4, 'engine_unreachable', 'error: no engine\n'],
  ['timed-out', 5, 'timed_out', 'error: too late\n'],
] as const)('an error that is %s exits %i, with and without --json', async ([how, exit, code, line]) => {
  const [plain, json] = await Promise.all([runFixture(['fail', how]), runFixture(['fail', how, '--json'])])
  expect(plain).toEqual({ code: exit, signal: null, stdout: '', stderr: line + next(code) })
  expect(json.code).toBe(exit)
  expect(json.stderr).toBe('')
  expect(JSON.parse(json.stdout)).toMatchObject({
    version: 1,
    images: ['web'],
    error: { code, exit, ids: { build: '1gd4x7k2m-8q3zt1' } },
  })
})

test('success prints the result alone, as text or as one versioned document', async () => {
  const [plain, json] = await Promise.all([runFixture(['fail', 'not']), runFixture(['fail', 'not', '--json'])])
  expect(plain).toEqual({ code: 0, signal: null, stdout: '100% fine\n', stderr: '' })
  expect(json).toMatchObject({ code: 0, stderr: '' })
  expect(JSON.parse(json.stdout)).toEqual({ version: 1, images: ['web'] })
})

test.for(['bug', 'rejection'])('a %s exits 1 with its stack and where to report it', async (how) => {
  const { code, stdout, stderr } = await runFixture(['fail', how])
  expect(code).toBe(1)
  expect(stdout).toBe('')
  expect(stderr).toMatch(/^bug: \w*Error: .*\n\s+at Fail\.run .*commands\.ts/)
  expect(stderr).toContain('report it')
})

test("a bug's causes are shown too", async () => {
  expect((await runFixture(['fail', 'bug'])).stderr).toContain('caused by Error: the first cause')
})

test('this.exit keeps its code and prints nothing', async () => {
  expect(await runFixture(['fail', 'exit'])).toEqual({ code: 5, signal: null, stdout: '', stderr: '' })
})

test.for([
  [['flags', '--shaa', 'x'], 'unknown flag --shaa; did you mean --sha?', 'flags --help'],
  [['flags', '--shaa=x'], 'unknown flag --shaa; did you mean --sha?', 'flags --help'],
  [['flags', '--zzzzz'], 'unknown flag --zzzzz', 'flags --help'],
  [['flags', '--sha'], 'flag --sha expects a value', 'flags --help'],
  [
    ['flags', '--priority', 'hihg'],
    "--priority can't be `hihg`: it is one of normal, high; did you mean `high`?",
    'flags --help',
  ],
  [['flags', 'surplus'], 'unexpected argument surplus', 'flags --help'],
  [['fail'], 'missing argument HOW', 'fail --help'],
  [['--versoin'], 'unknown flag --versoin; did you mean --version?', '--help'],
] as const)('%j is a usage error: exit 2 and one line', async ([args, message, help]) => {
  const { code, stdout, stderr } = await runFixture([...args])
  expect({ code, stdout, stderr }).toEqual({ code: 2, stdout: '', stderr: `error: ${message}\nnext: see \`bake ${help}\`\n` })
})

test('a usage error with --json is a document, without the configuration', async () => {
  const { code, stdout } = await runFixture(['flags', '--shaa', '--json'])
  expect(code).toBe(2)
  expect(JSON.parse(stdout)).toEqual({
    version: 1,
    error: {
      code: 'usage',
      message: 'unknown flag --shaa; did you mean --sha?',
      next: 'see `bake flags --help`',
      exit: 2,
      ids: {},
    },
  })
})

test("an error that a flag's own check throws keeps its code and loses oclif's frame", async () => {
  const { code, stderr } = await runFixture(['flags', '--slots', '3'])
  expect({ code, stderr }).toEqual({ code: 2, stderr: 'error: --slots: two or nothing\ncode=slots\n' })
})

test.for([[['stori']], [['stori', '--help']], [['help', 'stori']]])(
  '%j is an unknown command: exit 2 with a suggestion',
  async ([args]) => {
    const { code, stderr } = await runFixture(args!)
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: 'error: there is no command `stori`; did you mean `story`?\nnext: try `bake story`, or see `bake --help`\n',
    })
  },
)

test('an unknown command with --json is a document', async () => {
  const { code, stdout } = await runFixture(['stori', '--json'])
  expect(code).toBe(2)
  expect(JSON.parse(stdout)).toMatchObject({ version: 1, error: { code: 'unknown_command', exit: 2 } })
})

test('`bake help X` is `bake X --help`', async () => {
  const [help, flag] = await Promise.all([runFixture(['help', 'flags']), runFixture(['flags', '--help'])])
  expect(help).toEqual(flag)
  expect(help).toMatchObject({ code: 0, stdout: expect.stringContaining('--priority') })
})

test('settings come from BAKE_*, and a bad value there is a usage error', async () => {
  const [good, bad] = await Promise.all([
    runFixture(['flags'], { env: { BAKE_PRIORITY: 'high' } }),
    runFixture(['flags'], { env: { BAKE_PRIORITY: 'urgent' } }),
  ])
  expect(JSON.parse(good.stdout)).toMatchObject({ priority: 'high' })
  expect(bad).toMatchObject({ code: 2, stderr: expect.stringContaining("can't be `urgent`") })
})

test('a missing argument is not read from a pipe', async () => {
  expect(await runFixture(['fail'], { input: 'bug\n' })).toMatchObject({ code: 2 })
})

test.for([
  [{ FORCE_COLOR: '1' }, true],
  [{ FORCE_COLOR: '0' }, false],
  [{ NO_COLOR: '1' }, false],
  [{}, false],
] as const)('colours in a pipe with %j: %s', async ([env, coloured]) => {
  const { stderr } = await runFixture(['fail', 'failed'], { env })
  expect(stderr.includes('\x1b[31merror:\x1b[39m')).toBe(coloured)
})
