import type { AwsSettings } from '../config.ts'
import type { Queue } from '../io/queue.ts'
import type { Project } from './project.ts'
import { type Services, targetsOf } from './services.ts'

/** Queue and registry of a fleet. Nothing is asked of AWS before the first call. */
export function awsServices(project: Project, { region, queue: prefix }: AwsSettings): Services {
  const shards = project.config.fleet.shards ?? 1
  const { bakes } = project.config.worker
  let opened: Promise<Queue> | undefined
  const queue = async (): Promise<Queue> => {
    const { SqsQueue } = await import('../io/queue-sqs.ts')
    return SqsQueue.open({ region, prefix, shards, bakes })
  }
  return {
    lost: new AbortController().signal,
    queue,
    sender: {
      shards,
      async send(lane, body, shard) {
        opened ??= queue()
        await (await opened).send(lane, body, shard)
      },
    },
    ...targetsOf(project, undefined),
    [Symbol.dispose]() {
      void opened?.then((open) => open.close()).catch(() => {})
    },
  }
}
