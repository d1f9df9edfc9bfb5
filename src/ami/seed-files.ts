import { type BakeLine, withBakeLine } from './user-data.ts'

export interface SeedAsk {
  /** cloud-init does its work once per instance. */
  instance: string
  facts: BakeLine
  /** A line of root's authorized_keys, for a machine that is reached by SSH. */
  rootKey?: string
  /** More files, by name. */
  files?: Record<string, string>
}

/** Files of a NoCloud seed: https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html */
export function seedFiles({ instance, facts, rootKey, files }: SeedAsk): Record<string, string> {
  const access =
    rootKey === undefined
      ? []
      : ['disable_root: false', 'users:', '  - name: root', '    ssh_authorized_keys:', `      - ${JSON.stringify(rootKey)}`]
  const userData = Buffer.from(['#cloud-config', ...access, ''].join('\n'))
  return {
    'meta-data': `instance-id: ${instance}\nlocal-hostname: ${instance}\n`,
    'user-data': (withBakeLine(userData, facts) ?? userData).toString('latin1'),
    ...files,
  }
}

/** The same key for a base without cloud-init: systemd 252 and later write root's authorized_keys from it (systemd-tmpfiles, provision.conf). */
export const keyCredentials = (rootKey: string): Record<string, string> => ({ 'ssh.authorized_keys.root': `${rootKey}\n` })
