/** bake's own document for Run Command: whoever may send it, and nothing else, can swap images and has no shell (docs/swap.md). */
export const SWAP_DOCUMENT = 'bake-swap'

/** Names of services and digests, with nothing that a shell would look at twice. */
const SERVICE = '[a-z0-9][a-z0-9._-]{0,127}=sha256:[0-9a-f]{64}'
/** Pulling and health checks: as long as an instance may take. */
const MOST_SECONDS = 3600
/** An instance that was baked before bake could swap has no such program (sysexits.h, EX_UNAVAILABLE). */
export const NO_PROGRAM = 69
/** The program's, when another one is at it (sysexits.h, EX_TEMPFAIL). */
export const BUSY = 75

/** Its content (schema 2.2): parameters are checked by SSM before anything reaches an instance, and once more by the program there. */
export const swapDocument = {
  schemaVersion: '2.2',
  description: 'bake swap: replaces the images of services on an instance by digest, or puts back what ran',
  parameters: {
    Services: {
      type: 'String',
      description: 'SERVICE=sha256:HEX, separated by single spaces',
      allowedPattern: `^${SERVICE}(?: ${SERVICE})*$`,
    },
    Mode: {
      type: 'String',
      description: 'atomic: all services of the instance, or none',
      default: 'each',
      allowedValues: ['each', 'atomic'],
    },
  },
  mainSteps: [
    {
      action: 'aws:runShellScript',
      name: 'swap',
      inputs: {
        timeoutSeconds: String(MOST_SECONDS),
        runCommand: [
          `[ -x /usr/local/lib/bake/swap ] || exit ${NO_PROGRAM}`,
          'set -- {{ Services }}',
          'if [ {{ Mode }} = atomic ]; then set -- --atomic "$@"; fi',
          'exec /usr/local/lib/bake/swap run "$@"',
        ],
      },
    },
  ],
}

/** Name of the parameter that an instance of the stack reads when it starts; its tag `bake:swap` has it. */
export const swapParameter = (project: string, stack: string): string => `/bake/${project}/swap/${stack}`
