/** JSON values by name; what each means stands in setup/desired.ts. */
export type Settings = Record<string, unknown>

/** One thing in the account as it should be. */
export interface Resource {
  kind: 'queue' | 'bucket' | 'repository' | 'network' | 'document' | 'group-tag'
  name: string
  settings: Settings
}

export interface Found {
  settings: Settings
  /** Settings that this service (an emulator, an older region) can't have, with what it has in their place. */
  unsupported?: Record<string, string>
}

/** The resources of one kind, as `bake setup` sees and makes them. Errors are BakeErrors: no permission, a name that others have, a service that doesn't answer. */
export interface ResourceStore {
  /** The settings of `wanted`, as they are; undefined when there is no such resource. */
  look(wanted: Resource): Promise<Found | undefined>
  /** Makes it, with all of its settings. One that is there by now is no error. */
  create(wanted: Resource): Promise<void>
  /** Sets those of its settings that are named. */
  change(wanted: Resource, settings: string[]): Promise<void>
}
