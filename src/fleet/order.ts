/** Whoever others come after goes first. bake.yaml has no circles. */
export function inOrder<S extends { name: string; after: string[] }>(services: readonly S[]): S[] {
  const ordered: S[] = []
  const add = (service: S) => {
    if (ordered.includes(service)) return
    for (const other of services) if (service.after.includes(other.name)) add(other)
    ordered.push(service)
  }
  for (const service of services) add(service)
  return ordered
}
