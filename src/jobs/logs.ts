// The log of a build: StoryEvents as NDJSON, in numbered chunks of the ledger, ended by one line {"type":"end"}.
export { followLog, readLog } from './log-reader.ts'
export { LogWriter } from './log-writer.ts'
