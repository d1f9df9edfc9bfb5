/** `npm run bench -- NAME [runs [part,…]]`: runs bench/NAME.ts, or only parts of it; its story goes to stderr, the last line of stdout is one JSON object. */
import { existsSync, readdirSync } from 'node:fs'

const here = new URL('.', import.meta.url)
const names = readdirSync(here).flatMap((file) =>
  file.endsWith('.ts') && !['run.ts', 'support.ts'].includes(file) ? [file.slice(0, -3)] : [],
)
const [name, runs, parts] = process.argv.slice(2)
if (name === undefined || !names.includes(name)) {
  process.stderr.write(`usage: npm run bench -- NAME [runs [part,…]]\nbenchmarks: ${names.join(', ')}\n`)
  process.exit(2)
}
if (!existsSync(new URL('../dist', here))) {
  process.stderr.write('the compiled program is what is measured: npm run build\n')
  process.exit(4)
}
const { default: bench } = (await import(new URL(`${name}.ts`, here).href)) as {
  default: (runs?: number, parts?: string[]) => Promise<object>
}
const figures = await bench(runs === undefined ? undefined : Number(runs), parts?.split(','))
process.stdout.write(`${JSON.stringify(figures)}\n`)
process.exit(0)
