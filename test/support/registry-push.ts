import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'

export type ImageFiles = Record<string, { content: Buffer | string; mode?: number }>

/** A tar archive (ustar) of small files. */
function tar(files: ImageFiles): Buffer {
  const parts = Object.entries(files).flatMap(([name, { content, mode = 0o644 }]) => {
    const header = Buffer.alloc(512)
    const field = (at: number, text: string) => header.write(text, at, 'latin1')
    field(0, name)
    field(100, `${mode.toString(8).padStart(7, '0')}\0`)
    field(108, '0000000\0')
    field(116, '0000000\0')
    field(124, `${Buffer.byteLength(content).toString(8).padStart(11, '0')}\0`)
    field(136, '00000000000\0')
    field(148, '        ')
    field(156, '0')
    field(257, 'ustar\u000000')
    const sum = header.reduce((total, byte) => total + byte, 0)
    field(148, `${sum.toString(8).padStart(6, '0')}\0 `)
    const body = Buffer.alloc(Math.ceil(Buffer.byteLength(content) / 512) * 512)
    Buffer.from(content).copy(body)
    return [header, body]
  })
  return Buffer.concat([...parts, Buffer.alloc(1024)])
}

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

export interface PushOptions {
  /** One makes a plain image, several an index; linux/amd64 unless told. */
  platforms?: string[]
  /** What `/content` in it says; decides the digest. */
  content?: string
  /** More files, by path without the first slash. */
  files?: ImageFiles
  /** Of the image's configuration: `Cmd`, `Env`. */
  config?: object
  /** Value of Authorization. */
  authorization?: string
}

/** Pushes a small image over HTTP, without an engine: `localhost:<port>`, `team/base`, `1` → its digest. */
export async function pushImage(host: string, path: string, tag: string, options: PushOptions = {}): Promise<string> {
  const headers: Record<string, string> = options.authorization ? { authorization: options.authorization } : {}
  const base = `http://${host}/v2/${path}`
  const expect = async (request: Promise<Response>, status: number) => {
    const answer = await request
    if (answer.status !== status) throw new Error(`${answer.url}: HTTP ${answer.status} ${await answer.text()}`)
    return answer
  }
  const blob = async (bytes: Buffer) => {
    const start = await expect(fetch(`${base}/blobs/uploads/`, { method: 'POST', headers }), 202)
    const url = new URL(start.headers.get('location')!, base)
    url.searchParams.set('digest', digestOf(bytes))
    await expect(fetch(url, { method: 'PUT', headers, body: new Uint8Array(bytes) }), 201)
    return { digest: digestOf(bytes), size: bytes.length }
  }
  const manifest = async (name: string, mediaType: string, value: object) => {
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...value }))
    const put = { method: 'PUT', headers: { ...headers, 'content-type': mediaType }, body: bytes }
    await expect(fetch(`${base}/manifests/${name || digestOf(bytes)}`, put), 201)
    return { mediaType, digest: digestOf(bytes), size: bytes.length }
  }
  const platforms = (options.platforms ?? ['linux/amd64']).map((platform) => {
    const [os, architecture, variant] = platform.split('/')
    return { os: os!, architecture: architecture!, ...(variant ? { variant } : {}) }
  })
  const archive = tar({ content: { content: options.content ?? 'hello\n' }, ...options.files })
  const layer = await blob(gzipSync(archive))
  const image = async (platform: (typeof platforms)[number], name: string) => {
    const config = await blob(
      Buffer.from(
        JSON.stringify({
          ...platform,
          config: options.config ?? {},
          rootfs: { type: 'layers', diff_ids: [digestOf(archive)] },
          history: [{ created_by: 'test' }],
        }),
      ),
    )
    return manifest(name, 'application/vnd.oci.image.manifest.v1+json', {
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', ...layer }],
    })
  }
  if (platforms.length === 1) return (await image(platforms[0]!, tag)).digest
  const manifests: object[] = []
  for (const platform of platforms) manifests.push({ ...(await image(platform, '')), platform })
  return (await manifest(tag, 'application/vnd.oci.image.index.v1+json', { manifests })).digest
}
