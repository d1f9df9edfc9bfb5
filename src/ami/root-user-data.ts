/**
 * Lets everything be run that is asked for. Distributions that allow root's logins only with a forced command (Amazon Linux: sshd_config(5), PermitRootLogin)
 * allow this one.
 */
const ANY_COMMAND = 'command="exec sh -c \\"$SSH_ORIGINAL_COMMAND\\""'

/**
 * User-data for an instance that is baked: root may log in with this key, whatever the distribution calls its own user, which is there as well. Keys of `users`
 * keep their options; those at the top are given cloud-init's own (cc_ssh). https://docs.cloud-init.io/en/latest/reference/modules.html#users-and-groups
 */
export const rootUserData = (publicKey: string): string =>
  [
    '#cloud-config',
    'disable_root: false',
    'users:',
    '  - default',
    '  - name: root',
    '    ssh_authorized_keys:',
    `      - ${JSON.stringify(`${ANY_COMMAND} ${publicKey}`)}`,
    '',
  ].join('\n')
