/** AWS's own document for a line of sh, as root. `seconds`: it is ended after this; 172,800 at most. */
export const shell = (line: string, seconds: number) => ({
  ...{ document: SHELL_DOCUMENT, deliverySeconds: DELIVERY_SECONDS },
  parameters: { commands: line, executionTimeout: String(seconds) },
})
export const SHELL_DOCUMENT = 'AWS-RunShellScript'
/** An agent that isn't there takes no command: it has this long to fetch it. */
const DELIVERY_SECONDS = 600
