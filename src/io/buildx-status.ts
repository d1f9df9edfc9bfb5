/** One object of `--progress=rawjson`: https://pkg.go.dev/github.com/moby/buildkit/client#SolveStatus, fields as its `json` tags name them. */
export interface SolveStatus {
  vertexes?: Vertex[]
  statuses?: { id: string; vertex: string; current?: number; total?: number }[]
  logs?: VertexLog[]
  warnings?: VertexWarning[]
}

export interface Vertex {
  digest: string
  name: string
  /** RFC 3339 with nanoseconds. */
  started?: string
  completed?: string
  cached?: boolean
  error?: string
}

interface VertexLog {
  vertex: string
  stream?: number
  /** Base64. */
  data?: string
  timestamp: string
}

interface VertexWarning {
  vertex: string
  /** Base64. */
  short?: string
}

/** Vertexes that are BuildKit's own work and no step of the Dockerfile: names as buildx and BuildKit's dockerfile frontend give them. */
const INTERNAL =
  /^(?:\[(?:internal|auth)\]|\[context [^\]]*\]|exporting |importing |pushing |preparing |sending |writing |copying files |resolve image config |resolving |merging |docker-image:\/\/|local:\/\/|load )/

export const isInternal = (name: string): boolean => INTERNAL.test(name)
