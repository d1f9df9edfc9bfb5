import type { AwsCall } from '../aws-faults.ts'

/**
 * Stand-in for what moto's SQS doesn't check: it lets a receipt handle change a message's visibility after its time ran out, and when the message was
 * received anew. SQS refuses both (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html, Errors).
 */
export class SqsReceipts {
  /** By receipt handle: the message, and when it is visible again, ms of performance.now. */
  readonly #held = new Map<string, { message: string; untilMs: number }>()
  /** By message: the newest receipt handle. */
  readonly #newest = new Map<string, string>()

  /** What SQS would say in the emulator's place, undefined when it would do as it is told. */
  refusal({ action, body }: AwsCall): { status: number; code: string } | undefined {
    if (action !== 'ChangeMessageVisibility') return undefined
    const { ReceiptHandle } = JSON.parse(body) as { ReceiptHandle: string }
    const held = this.#held.get(ReceiptHandle)
    if (held === undefined) return undefined
    if (this.#newest.get(held.message) !== ReceiptHandle) return { status: 400, code: 'ReceiptHandleIsInvalid' }
    return held.untilMs < performance.now() ? { status: 400, code: 'MessageNotInflight' } : undefined
  }

  /** Told of every call that the emulator carried out. */
  saw({ action, body }: AwsCall, answer: string): void {
    if (action !== 'ReceiveMessage' && action !== 'ChangeMessageVisibility') return
    const request = JSON.parse(body) as { VisibilityTimeout?: number; ReceiptHandle?: string }
    const untilMs = performance.now() + (request.VisibilityTimeout ?? 30) * 1000
    if (request.ReceiptHandle !== undefined) {
      const held = this.#held.get(request.ReceiptHandle)
      if (held) held.untilMs = untilMs
      return
    }
    const { Messages = [] } = JSON.parse(answer) as { Messages?: { MessageId: string; ReceiptHandle: string }[] }
    for (const { MessageId: message, ReceiptHandle } of Messages) {
      this.#held.set(ReceiptHandle, { message, untilMs })
      this.#newest.set(message, ReceiptHandle)
    }
  }
}
