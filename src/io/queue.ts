/** `machine` is the bakes', which only workers that bake ask for; it has one queue, whatever the number of shards. */
export type Lane = 'high' | 'normal' | 'machine'

export interface Message {
  readonly lane: Lane
  /** Number of the queue, among those of its lane, that it came from. */
  readonly shard: number
  readonly id: string
  readonly body: string
  /** The receipt handle of this delivery. */
  readonly receipt: string
  /** How often it was received, this time included. */
  readonly receives: number
  readonly sentAtMs: number
}

/** All that an asker does with the queue. */
export type JobSender = Pick<Queue, 'send' | 'shards'>

/** What one queue holds, as SQS counts: approximately. `delayed`: sent or handed back to be visible later. */
export interface Depth {
  lane: Lane
  shard: number
  visible: number
  inFlight: number
  delayed: number
}

/** `shards` SQS standard queues per lane, numbered from 0, with one dead-letter queue: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/ */
export interface Queue {
  readonly shards: number
  send(lane: Lane, body: string, shard?: number): Promise<void>
  /** Long-polls up to `waitSeconds` (0–20) for at most `max` (1–10) messages, hidden for `visibilitySeconds`. An aborted signal ends the wait with []. */
  receive(
    lane: Lane,
    options: { max: number; waitSeconds: number; visibilitySeconds: number; shard?: number; signal?: AbortSignal },
  ): Promise<Message[]>
  /** Hides the message for `seconds` from now; 0 hands it back. Throws `message_lost` (world's) when the receipt isn't valid any more. */
  renew(message: Message, seconds: number): Promise<void>
  /** Deletes it. A message that is gone already is no error. */
  remove(message: Message): Promise<void>
  /** Sends the body to the dead-letter queue with `reason` as an attribute, then deletes it here. */
  bury(message: Message, reason: string): Promise<void>
  /** Approximate counts over all lanes and shards. */
  depth(): Promise<{ visible: number; inFlight: number; delayed: number; dead: number }>
  /** The same per queue, without the dead letters. */
  depths(): Promise<Depth[]>
  /**
   * Resolves when receives that were given up have really ended, 20 s at most: until then SQS may still bring them a message, which is handed
   * back while this process lives, and hidden for as long as its visibility when it doesn't.
   */
  settled(): Promise<void>
  close(): void
}
