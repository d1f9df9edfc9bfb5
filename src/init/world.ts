/** What `planInit` needs of the outside world. */
export { printBake } from '../io/bake-print.ts'
