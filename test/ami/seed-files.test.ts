import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { keyCredentials, seedFiles } from '../../src/ami/seed-files.ts'

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI bake'

test('tells the machine what it is in one comment of cloud-init', () => {
  const files = seedFiles({ instance: 'i1', facts: { release: 'v2', sha: 'abc' } })
  expect(files['user-data']).toBe('#cloud-config\n#bake release=v2 sha=abc\n')
  expect(parse(files['meta-data']!)).toEqual({ 'instance-id': 'i1', 'local-hostname': 'i1' })
})

test('lets a key in as root, by cloud-init and by systemd', () => {
  const { users, disable_root } = parse(seedFiles({ instance: 'i1', facts: {}, rootKey: KEY })['user-data']!)
  expect({ users, disable_root }).toEqual({ users: [{ name: 'root', ssh_authorized_keys: [KEY] }], disable_root: false })
  expect(keyCredentials(KEY)).toEqual({ 'ssh.authorized_keys.root': `${KEY}\n` })
})
