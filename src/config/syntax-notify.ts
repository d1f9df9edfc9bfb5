/** The addresses that `notify:` takes, in bake.yaml and in variables. Their faults never repeat them: the URL of a webhook is a secret. */

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]']

/** What is wrong with the URL of a webhook, if anything. In the clear to this machine only. */
export function webhookFault(text: string): string | undefined {
  const url = URL.parse(text)
  if (url === null || /\s/.test(text)) return 'must be an https:// URL'
  if (url.username !== '' || url.password !== '') return 'must be an https:// URL without user and password'
  if (url.hash !== '') return 'must be an https:// URL without a # part'
  if (url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.includes(url.hostname))) return undefined
  return 'must be an https:// URL; http:// is for this machine (localhost) only'
}

const QUEUE_ARN = /^arn:aws[a-z-]*:sqs:([a-z0-9-]+):([0-9]{12}):([A-Za-z0-9_-]{1,75}(?:\.fifo)?)$/
const QUEUE_URL = /^https:\/\/sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?\/([0-9]{12})\/([A-Za-z0-9_-]{1,75}(?:\.fifo)?)$/

/** What is wrong with a queue's address, if anything. */
export const queueFault = (text: string): string | undefined =>
  parseQueue(text) === undefined
    ? 'must be the URL or ARN of an SQS queue, such as arn:aws:sqs:us-east-1:123456789012:builds'
    : undefined

/** An SQS queue's URL or ARN → what names it; undefined when it is neither. */
export function parseQueue(text: string): { region: string; account: string; name: string } | undefined {
  const [, region, account, name] = QUEUE_ARN.exec(text) ?? QUEUE_URL.exec(text) ?? []
  return region && account && name ? { region, account, name } : undefined
}
