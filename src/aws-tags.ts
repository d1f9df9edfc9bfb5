/**
 * Tags of what bake makes on AWS. Whatever exists only while a run lasts, and every image and snapshot that it leaves, carries `run`; instances of a launch
 * template never do, so `bake prune` can't take them for its own.
 */
export const TAG = {
  project: 'bake:project',
  /** Build id of the run that made it. */
  run: 'bake:run',
  inputs: 'bake:inputs',
  /** `true` once a proof has passed, `false` until then. */
  proven: 'bake:proven',
  /** On a copy in another region: the id of what was baked. */
  copyOf: 'bake:copy-of',
  /** On a copy of a base that the direct baker can't read or build upon: the base's id, and the key that it is encrypted with. */
  baseOf: 'bake:base-of',
  key: 'bake:key',
  /** On snapshots of the direct baker: which disk they hold, a hash of the hashes of its blocks. */
  disk: 'bake:disk',
  /** What an instance of a run is for: `proof`. */
  role: 'bake:role',
  /** On launch template versions' instances: which release and commit they are. */
  release: 'bake:release',
  sha: 'bake:sha',
  /** On instances of a stack that may be swapped: the parameter that says what an instance that joins is to run. */
  swap: 'bake:swap',
} as const

/** Keys that users can't set. */
export const RESERVED_TAGS = /^(?:aws|bake):/i
