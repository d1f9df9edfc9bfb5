import { pairs, sources, splitFlags } from './dockerfile-flags.ts'
import { type Stage, setArguments } from './dockerfile-stages.ts'
import { expand } from './dockerfile-words.ts'

/** An ADD of something on the network. */
export interface AddedUrl {
  /** Arguments expanded as far as the file tells them. */
  url: string
  line: number
  /** A checksum or a full commit id says what it must be; otherwise the same key can give different images. */
  pinned: boolean
}

const COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/

/** The URLs that the needed stages ADD. ENV of a base image isn't known here, so a URL made of it alone isn't seen. */
export function addedUrls(
  stages: readonly Stage[],
  globals: ReadonlyMap<string, string>,
  args: Readonly<Record<string, string>>,
  escapeToken: string,
): AddedUrl[] {
  const values = new Map<Stage, Map<string, string>>()
  const found: AddedUrl[] = []
  for (const stage of stages) {
    const env = new Map(stage.base ? values.get(stage.base) : [])
    values.set(stage, env)
    for (const command of stage.commands) {
      if (command.keyword === 'arg') setArguments(env, command.rest, escapeToken, args, globals)
      if (command.keyword === 'env')
        for (const { name, value } of pairs('env', command.rest, escapeToken))
          env.set(name, expand(value ?? '', env, { escape: escapeToken }) ?? '')
      if (command.keyword !== 'add') continue
      const { flags, args: rest } = splitFlags(command, escapeToken)
      const checksum = flags.some((flag) => flag.name === 'checksum' && flag.value !== '')
      for (const source of sources(rest)) {
        const url = expand(source, env, { escape: escapeToken }) ?? source
        if (isRemote(url)) found.push({ url, line: command.line, pinned: checksum || namesContent(url) })
      }
    }
  }
  return found
}

/** http(s), or Git by any spelling that BuildKit knows (frontend/dockerfile/dfgitutil). */
const isRemote = (url: string): boolean => /^(?:https?|git|ssh):\/\/|^git@[^/]+:|^github\.com\//.test(url)

/** A Git URL whose ref (`#ref:dir`, `?ref=`, `?commit=`) is a full commit id, or one with a checksum in its query. */
function namesContent(url: string): boolean {
  const [withoutFragment, fragment = ''] = url.split('#', 2) as [string, string?]
  if (COMMIT.test(fragment.split(':')[0]!)) return true
  const query = new URLSearchParams(withoutFragment.split('?')[1] ?? '')
  return ['ref', 'commit', 'checksum'].some((name) => COMMIT.test((query.get(name) ?? '').replace(/^sha256:/, '')))
}
