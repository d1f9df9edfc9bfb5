import type { Proof, ServiceProof } from '../ami/machine.ts'
import { shortDigest } from './format.ts'
import type { Palette } from './style.ts'
import { table } from './table.ts'

const NETWORKS = { none: 'no network card', dead: 'dead network', aws: 'subnet without routes' } as const

interface Row extends ServiceProof {
  /** By boot, in the proof's order; undefined: not started there. */
  times: (number | undefined)[]
}

/** Boot-to-healthy seconds per service and boot. */
export function proofTable(proof: Pick<Proof, 'boots'>, paint: Palette, columns: number | undefined): string[] {
  const names = [...new Set(proof.boots.flatMap(({ services }) => services.map(({ service }) => service)))]
  const rows = names.map((name): Row => {
    const each = proof.boots.map(({ services }) => services.find(({ service }) => service === name))
    return { ...each.find((one) => one !== undefined)!, times: each.map((one) => one?.seconds) }
  })
  const seconds = (value: number | undefined) => (value === undefined ? '-' : `${value.toFixed(1)} s`)
  return table<Row>(
    rows,
    [
      { title: 'service', value: ({ service }) => service, paint: (text) => paint.bold(text) },
      { title: 'proven', value: ({ level }) => level, paint: (text) => paint.green(text) },
      ...proof.boots.map(({ network }, i) => ({
        title: NETWORKS[network],
        value: ({ times }: Row) => seconds(times[i]),
        right: true,
      })),
      { title: 'image', value: ({ digest }) => shortDigest(digest), shrink: true, paint: (text) => paint.dim(text) },
    ],
    { columns, paintTitle: paint.dim },
  )
}
