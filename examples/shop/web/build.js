// One file to serve: the style goes into the page.
import { readFileSync, writeFileSync } from 'node:fs'

const page = readFileSync('src/page.html', 'utf8')
const style = readFileSync('src/style.css', 'utf8')
writeFileSync(
  'page.html',
  page.replace('/* style.css */', () => style),
)
