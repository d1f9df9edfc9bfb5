import type { ImageReference, MachinePlan } from './machine.ts'

/** Docker logins in a directory in memory, and what of them must stand in no log. */
export interface MachineLogin extends AsyncDisposable {
  dir: string
  secrets: string[]
}

/** Hosts that the machine pulls from, but for those on this machine's own loopback, which ask for nothing. */
export const registriesOf = ({ services, standIns }: Pick<MachinePlan, 'services' | 'standIns'>): string[] => {
  const all = [...services.map(({ reference }) => reference), ...standIns]
  return [...new Set(all.filter((image) => !isLoopback(image)).map(({ repository }) => repository.split('/', 1)[0]!))]
}

/** Whether it is in a registry on this machine's own loopback. */
export const isLoopback = ({ repository }: Pick<ImageReference, 'repository'>): boolean =>
  /^(?:127\.|localhost(?=[:/]))/.test(repository)
