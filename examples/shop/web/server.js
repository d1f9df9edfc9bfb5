import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import escapeHtml from 'escape-html'
import ms from 'ms'

const PRODUCTS = ['Sourdough', 'Rye & caraway', 'Ciabatta']
const PORT = Number(process.env.PORT ?? 3000)
const template = readFileSync(new URL('page.html', import.meta.url), 'utf8')

const page = () =>
  template
    .replace('{{products}}', PRODUCTS.map((name) => `    <li>${escapeHtml(name)}</li>`).join('\n'))
    .replace('{{uptime}}', ms(Math.round(process.uptime() * 1000), { long: true }))

const server = createServer((request, response) => {
  if (request.url === '/health') return response.end('ok\n')
  if (request.url !== '/') return response.writeHead(404).end('not found\n')
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page())
})

server.listen(PORT, () => console.log(`shop on port ${server.address().port}`))
process.once('SIGTERM', () => server.close())
