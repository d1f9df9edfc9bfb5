import { describe, expect, test } from 'vitest'
import { renderMachine } from '../../src/ami/render.ts'
import { canMount, makeDiskRoot } from './disk-root.ts'
import { plan, service } from './plan.ts'

/** /usr is this machine's; the step finds this docker in it, or none. */
const withDocker = (version?: string) => `mkdir -p /var/lib/docker /run/upper /run/work
mount -t overlay -o lowerdir=/usr/bin,upperdir=/run/upper,workdir=/run/work overlay /usr/bin
rm -f /usr/bin/docker
${
  version === undefined
    ? ''
    : `cat >/usr/bin/docker <<'SH'
#!/bin/bash
case $1 in version) ${version} ;; info) echo /var/lib/docker ;; esac
SH
chmod +x /usr/bin/docker`
}
step prepare`
const processor = process.arch === 'arm64' ? 'arm64' : 'amd64'
const other = processor === 'arm64' ? 'amd64' : 'arm64'

describe.skipIf(!canMount)('a base that can’t be baked upon is refused before anything on it is changed:', () => {
  const rendered = async (more: { architecture?: 'amd64' | 'arm64'; sizeBytes?: number } = {}) => {
    const { architecture = processor, sizeBytes = 1e6 } = more
    const web = service('web')
    const made = plan([{ ...web, reference: { ...web.reference, sizeBytes } }])
    return renderMachine({ ...made, architecture, base: { ...made.base, architecture } as never }, new Map())
  }
  const prepare = async (script: string, more: Parameters<typeof rendered>[0] = {}) => {
    using disk = makeDiskRoot(await rendered(more))
    return await disk.run(script)
  }

  test('what fits passes', async () => {
    const { status, stderr } = await prepare(withDocker('echo 20.10.24'))
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  })

  test.each<[string, string, RegExp]>([
    ['without Docker', withDocker(), /the base has no \/usr\/bin\/docker; take one with Docker/],
    ['with a Docker that is too old', withDocker('echo 19.03.15'), /Docker 19\.03\.15 is too old: 20\.10 or later/],
    [
      'with a Docker that doesn’t answer',
      withDocker('echo "Cannot connect to the Docker daemon" >&2; exit 1'),
      /the engine doesn't answer: Cannot connect/,
    ],
  ])('%s', async (_, script, said) => {
    const { status, stderr } = await prepare(script)
    expect(stderr).toMatch(said)
    expect(status).toBe(1)
  })

  test('of another processor', async () => {
    const { status, stderr } = await prepare(withDocker('echo 26.1.5'), { architecture: other })
    expect(stderr).toMatch(/the images are for \w+, and this machine is \w+/)
    expect(status).toBe(1)
  })

  test('without room for the images, with the size that would do', async () => {
    const { status, stderr } = await prepare(withDocker('echo 26.1.5'), { sizeBytes: 300e6 })
    expect(stderr).toMatch(
      /the images need 572 MiB in \/var\/lib\/docker at least, and \d+ MiB are free: a disk that is 2 GiB larger/,
    )
    expect(status).toBe(1)
  })
})
