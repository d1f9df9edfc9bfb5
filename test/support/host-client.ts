import { connectHost } from '../../src/io/host/client.ts'

/** A client in a process of its own. Arguments: connectHost's options as JSON, `stay` to stay until it is killed. Prints the host's pid. */
const connection = await connectHost(JSON.parse(process.argv[2] ?? ''))
process.stdout.write(`${connection.pid}\n`)
if (process.argv[3] === 'stay') setInterval(() => {}, 60_000)
