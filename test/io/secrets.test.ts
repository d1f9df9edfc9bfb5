import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { spawnChild } from '../../src/io/child.ts'
import { materialiseSecrets, secretsHome, secretVariable, sweepSecrets } from '../../src/io/secrets.ts'

let base: string
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'bake-secrets-test-'))
})
afterAll(() => rm(base, { recursive: true }))
const fresh = () => mkdtemp(join(base, 'x-'))

describe('materialiseSecrets', () => {
  test('writes values from variables and files, readable for nobody else, and removes them', async () => {
    const dir = await fresh()
    const folder = await fresh()
    await writeFile(join(folder, 'key.pem'), 'BEGIN\nEND\n')
    await writeFile(join(folder, 'npm_token'), 'from the file')
    const env = { BAKE_SECRET_NPM_TOKEN: 'from the variable', BAKE_SECRETS_DIR: folder }
    const secrets = await materialiseSecrets([{ id: 'npm_token' }, { id: 'key.pem' }], { env, dir })
    expect(Object.keys(secrets.files)).toEqual(['npm_token', 'key.pem'])
    expect(secrets.values).toEqual(['from the variable', 'BEGIN\nEND\n'])
    expect(await readFile(secrets.files.npm_token!, 'utf8')).toBe('from the variable')
    expect(await readFile(secrets.files['key.pem']!, 'utf8')).toBe('BEGIN\nEND\n')
    expect((await stat(secrets.files.npm_token!)).mode & 0o777).toBe(0o600)
    expect((await stat(dirname(secrets.files.npm_token!))).mode & 0o777).toBe(0o700)
    await secrets[Symbol.asyncDispose]()
    expect(await readdir(dir)).toEqual([])
  })

  test('bytes that are no text stay what they are', async () => {
    const folder = await fresh()
    const bytes = Buffer.from([0xff, 0x00, 0x0a])
    await writeFile(join(folder, 'blob'), bytes)
    await using secrets = await materialiseSecrets([{ id: 'blob' }], { env: { BAKE_SECRETS_DIR: folder }, dir: await fresh() })
    expect(await readFile(secrets.files.blob!)).toEqual(bytes)
  })

  test('names all that are unset or empty at once, and where they may be set, and leaves nothing behind', async () => {
    const dir = await fresh()
    const folder = await fresh()
    await writeFile(join(folder, 'blank'), ' \n')
    const env = { BAKE_SECRET_SET: 'x', BAKE_SECRET_EMPTY: '', BAKE_SECRETS_DIR: folder }
    const ids = ['set', 'empty', 'un-set.id', 'blank'].map((id) => ({ id }))
    await expect(materialiseSecrets(ids, { env, dir })).rejects.toMatchObject({
      kind: 'user',
      code: 'secret_not_set',
      exit: 2,
      message: expect.stringMatching(/empty, un-set\.id, blank$/),
      next: expect.stringMatching(new RegExp(`BAKE_SECRET_EMPTY and BAKE_SECRET_UN_SET_ID and BAKE_SECRET_BLANK.*${folder}`)),
    })
    expect(await readdir(dir)).toEqual([])
  })

  test('a value of its own is taken before the one in SSM, which is not asked then', async () => {
    const asked: string[][] = []
    const parameters = async (names: string[]) => {
      asked.push(names)
      return new Map(names.map((name) => [name, Buffer.from(`value of ${name}`)]))
    }
    const env = { BAKE_SECRET_OWN: 'own' }
    const ids = [
      { id: 'own', ssm: '/shop/own' },
      { id: 'stored', ssm: '/shop/stored' },
      { id: 'again', ssm: '/shop/stored' },
    ]
    await using secrets = await materialiseSecrets(ids, { env, dir: await fresh(), parameters })
    expect(secrets.values).toEqual(['own', 'value of /shop/stored', 'value of /shop/stored'])
    expect(asked).toEqual([['/shop/stored']])
  })

  test('refuses ids that are no file name', async () => {
    const options = { env: {}, dir: await fresh() }
    for (const id of ['../x', '.x', '-x', 'a/b', '']) {
      await expect(materialiseSecrets([{ id }], options)).rejects.toMatchObject({ code: 'secret_id_invalid', exit: 2 })
    }
  })

  test('nothing is made for no secrets', async () => {
    const dir = await fresh()
    expect(await materialiseSecrets([], { env: {}, dir })).toMatchObject({ files: {}, values: [] })
    expect(await readdir(dir)).toEqual([])
  })

  test('goes to memory by default', async () => {
    const { dir, note } = await secretsHome({})
    if (process.platform === 'linux') expect({ dir, note }).toEqual({ dir: '/dev/shm', note: undefined })
    await using secrets = await materialiseSecrets([{ id: 'a' }], { env: { BAKE_SECRET_A: 'x' } })
    expect(secrets.files.a!.startsWith(`${dir}/bake-secrets-${process.pid}-`)).toBe(true)
  })
})

test('secretVariable', () => {
  expect(['npm_token', 'my-key.pem'].map(secretVariable)).toEqual(['BAKE_SECRET_NPM_TOKEN', 'BAKE_SECRET_MY_KEY_PEM'])
})

describe('sweepSecrets', () => {
  test('removes what a worker killed with -9 left, and nothing else', async () => {
    const dir = await fresh()
    const script = join(base, 'worker.ts')
    const module = JSON.stringify(join(import.meta.dirname, '../../src/io/secrets.ts'))
    await writeFile(
      script,
      `import { materialiseSecrets } from ${module}
const { files } = await materialiseSecrets([{ id: 'a' }], { env: { BAKE_SECRET_A: 'x' }, dir: ${JSON.stringify(dir)} })
console.log(files.a)
setInterval(() => {}, 1000)
`,
    )
    const worker = spawnChild(process.execPath, [script], { stdout: 'pipe' })
    let left = ''
    for await (const text of worker.stdout!) {
      left = String(text).trim()
      expect(await sweepSecrets(dir)).toBe(0)
      expect(existsSync(left)).toBe(true)
      process.kill(worker.pid, 'SIGKILL')
    }
    await worker.exited
    await using mine = await materialiseSecrets([{ id: 'b' }], { env: { BAKE_SECRET_B: 'y' }, dir })
    await mkdir(join(dir, 'bake-secrets-other'))
    await symlink(base, join(dir, 'bake-secrets-1-9.x-00'))
    expect(existsSync(left)).toBe(true)
    expect(await sweepSecrets(dir)).toBe(1)
    expect(existsSync(left)).toBe(false)
    expect((await readdir(dir)).sort()).toEqual(
      ['bake-secrets-1-9.x-00', 'bake-secrets-other', dirname(mine.files.b!).split('/').at(-1)].sort(),
    )
  })

  test('a directory that is not there has nothing to sweep', async () => {
    expect(await sweepSecrets(join(base, 'missing'))).toBe(0)
  })
})

test('a secret that may not be read is told apart from one that is not set', async () => {
  const folder = await fresh()
  await mkdir(join(folder, 'dir'))
  await chmod(folder, 0o755)
  await expect(
    materialiseSecrets([{ id: 'dir' }], { env: { BAKE_SECRETS_DIR: folder }, dir: await fresh() }),
  ).rejects.toMatchObject({
    code: 'secret_not_readable',
    exit: 2,
  })
})
