export type Lane = 'high' | 'normal'

export interface Message {
  readonly lane: Lane
  readonly id: string
  readonly body: string
  /** The receipt handle of this delivery. */
  readonly receipt: string
  /** How often it was received, this time included. */
  readonly receives: number
  readonly sentAtMs: number
}

/** All that an asker does with the queue. */
export type JobSender = Pick<Queue, 'send'>

/** An SQS standard queue per lane, with one dead-letter queue: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/ */
export interface Queue {
  send(lane: Lane, body: string): Promise<void>
  /** Long-polls up to `waitSeconds` (0–20) for at most `max` (1–10) messages, hidden for `visibilitySeconds`. An aborted signal ends the wait with []. */
  receive(
    lane: Lane,
    options: { max: number; waitSeconds: number; visibilitySeconds: number; signal?: AbortSignal },
  ): Promise<Message[]>
  /** Hides the message for `seconds` from now; 0 hands it back. Throws `message_lost` (world's) when the receipt isn't valid any more. */
  renew(message: Message, seconds: number): Promise<void>
  /** Deletes it. A message that is gone already is no error. */
  remove(message: Message): Promise<void>
  /** Sends the body to the dead-letter queue with `reason` as an attribute, then deletes it here. */
  bury(message: Message, reason: string): Promise<void>
  /** Approximate counts over all lanes. */
  depth(): Promise<{ visible: number; inFlight: number; delayed: number; dead: number }>
  close(): void
}
