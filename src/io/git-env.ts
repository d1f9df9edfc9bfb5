/** What git itself drops when it enters another repository (`git rev-parse --local-env-vars`), less its -c settings: set when bake runs in a git hook. */
const LOCAL = [
  'GIT_ALTERNATE_OBJECT_DIRECTORIES',
  'GIT_ATTR_SOURCE',
  'GIT_COMMON_DIR',
  'GIT_CONFIG',
  'GIT_DIR',
  'GIT_GRAFT_FILE',
  'GIT_IMPLICIT_WORK_TREE',
  'GIT_INDEX_FILE',
  'GIT_NAMESPACE',
  'GIT_OBJECT_DIRECTORY',
  'GIT_PREFIX',
  'GIT_REPLACE_REF_BASE',
  'GIT_SHALLOW_FILE',
  'GIT_WORK_TREE',
]

/** Settings from the environment: `git -c` of a parent, GIT_CONFIG_COUNT and its pairs. */
const SETTINGS = /^GIT_CONFIG_(?:PARAMETERS|COUNT|KEY_\d+|VALUE_\d+|SYSTEM)$/

/** Reading the asker's checkout: its user's own git settings count (safe.directory), replaced objects don't, because a worker never sees them. */
export function readEnv(): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    LC_ALL: 'C',
    GIT_NO_REPLACE_OBJECTS: '1',
    GIT_OPTIONAL_LOCKS: '0',
    GIT_TERMINAL_PROMPT: '0',
  }
  for (const name of LOCAL) delete env[name]
  return env
}

/** Talking to the source: with the user's settings (credential helpers, proxies), never asking anybody anything, over safe transports only. */
export function fetchEnv(allowLocal: boolean): NodeJS.ProcessEnv {
  return { ...readEnv(), GIT_ALLOW_PROTOCOL: allowLocal ? 'https:ssh:file' : 'https:ssh', SSH_ASKPASS_REQUIRE: 'never' }
}

/** An ssh that ends where it would ask, and when nobody answers. `configured`: the user's core.sshCommand. */
export const quietSsh = (configured: string): string =>
  `${process.env.GIT_SSH_COMMAND || configured || 'ssh'} -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15`

/** Writing work trees: nobody's settings, so that every worker writes the same bytes. HOME for git < 2.32, which doesn't know GIT_CONFIG_GLOBAL. */
export function treeEnv(): NodeJS.ProcessEnv {
  const env = readEnv()
  for (const name of Object.keys(env)) if (SETTINGS.test(name)) delete env[name]
  return {
    ...env,
    HOME: '/nonexistent',
    XDG_CONFIG_HOME: '/nonexistent',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_ATTR_NOSYSTEM: '1',
  }
}

/** What decides bytes and modes of a work tree, said explicitly: the mirror's own config was probed on whatever disk it was made on. */
export const TREE_SETTINGS = Object.entries({
  'core.autocrlf': 'false',
  'core.eol': 'lf',
  'core.safecrlf': 'false',
  'core.symlinks': 'true',
  'core.fileMode': 'true',
  'core.ignoreCase': 'false',
  'core.precomposeUnicode': 'false',
  'core.trustctime': 'true',
  'core.checkStat': 'default',
  'core.sparseCheckout': 'false',
  'core.splitIndex': 'false',
  'core.untrackedCache': 'false',
  'core.fsmonitor': 'false',
  'core.hooksPath': '/dev/null',
  'core.attributesFile': '/dev/null',
  'core.excludesFile': '/dev/null',
  'advice.detachedHead': 'false',
}).flatMap(([name, value]) => ['-c', `${name}=${value}`])
