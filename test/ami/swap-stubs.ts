// biome-ignore-all lint/suspicious/noTemplateCurlyInString: scripts
import { renderMachine } from '../../src/ami/render.ts'
import { makeDiskRoot } from './disk-root.ts'
import { digest, plan, service } from './plan.ts'

export const ECR = '123456789012.dkr.ecr.eu-central-1.amazonaws.com'
/** Its services' images, but for the digest: `IMAGE.web('b')`. */
export const IMAGE = {
  web: (digit: string) => `127.0.0.1:5000/shop/web@${digest(digit)}`,
  'queue.1': (digit: string) => `127.0.0.1:5000/shop/queue.1@${digest(digit)}`,
  jobs: (digit: string) => `${ECR}/shop/jobs@${digest(digit)}`,
}

/**
 * `docker` and `systemctl` of a machine whose services are in files of /run/is: `state.web`, `runs.web`; `images` are there, `registry` can be pulled, `sick`
 * never gets well, `broken` fails its units. What was asked is in /run/asked.
 */
const STUBS = `
  cp -r /run/bake-bake/files/. /
  mkdir -p /run/is /run/stubs /run/bake
  touch /run/is/{images,registry,sick,broken} /run/asked
  cat >/run/stubs/docker <<'SH'
#!/bin/bash
echo "docker $*" >>/run/asked
[ "$1" != --config ] || { cat "$2/config.json" >>/run/logins; shift 2; }
has() { grep -qxF -e "$2" "/run/is/$1"; }
case $1 in
  pull) if has registry "$3"; then echo "$3" >>/run/is/images; else printf 'pulling\\n%s\\n' "Error response from daemon: $3: not found" >&2; exit 1; fi ;;
  inspect) cat "/run/is/runs.\${4#bake-}" ;;
  image) if [ "$2" = rm ]; then sed -i "\\|^$3$|d" /run/is/images; else has images "$3"; fi ;;
esac
SH
  cat >/run/stubs/systemctl <<'SH'
#!/bin/bash
echo "systemctl $*" >>/run/asked
name=\${*: -1}; name=\${name#bake-}; name=\${name%.service}
case $* in
  *is-active*) grep -qsx active "/run/is/state.$name" ;;
  restart*)
    [ ! -e /run/is/slow ] || sleep "$(cat /run/is/slow)"
    image=$(cat /var/lib/bake/swap/$name.env /run/bake/swap/$name.env 2>/dev/null | tail -n 1)
    image=\${image#BAKE_IMAGE=}
    if [ -z "$image" ] || [ -e /run/is/deaf ]; then image=$(sed -n -E 's/^.*"service": "'"$name"'", "repository": "([^"]+)", "digest": "([^"]+)".*$/\\1@\\2/p' /etc/bake/manifest.json); fi
    echo "$image" >"/run/is/runs.$name"
    echo active >"/run/is/state.$name"
    if grep -qxF -e "$image" /run/is/sick; then
      echo failed >"/run/is/state.$name"
      [ ! -e /run/is/why ] || cp /run/is/why "/run/bake/$name.why"
      exit 1
    fi
    ;;
esac
SH
  printf '#!/bin/bash\\ncat /run/is/journal 2>/dev/null\\n' >/run/stubs/journalctl
  chmod +x /run/stubs/*
  PATH=/run/stubs:$PATH
  for name in web queue.1 jobs; do systemctl restart bake-$name.service; done
  sed -n -E 's/^.*"repository": "([^"]+)", "digest": "([^"]+)".*$/\\1@\\2/p' /etc/bake/manifest.json >/run/is/images
  : >/run/asked
  swap() { local status=0; /usr/local/lib/bake/swap "$@" || status=$?; echo "ended with $status"; }
`

export interface Line {
  service: string
  status: string
  digest: string
  before: string
  seconds: number
  why?: string
}

/** Runs a script where `swap` is the machine's; what it told, did and left. */
export async function onMachine(script: string, services = ['web', 'queue.1', 'jobs'] as (keyof typeof IMAGE)[]) {
  const reference = (name: keyof typeof IMAGE) => {
    const [repository, baked] = IMAGE[name]('a').split('@') as [string, string]
    return { image: name, repository, digest: baked }
  }
  const rendered = await renderMachine(plan(services.map((name) => service(name, { reference: reference(name) }))), new Map())
  using root = makeDiskRoot(rendered, 16)
  const { status, stdout, stderr } = await root.run(`${STUBS}
    ${script}
    for part in asked:/run/asked logins:/run/logins images:/run/is/images kept:/var/lib/bake/swap/ tried:/run/bake/swap/; do
      echo "# \${part%%:*}"
      path=\${part#*:}
      if [ -d "$path" ]; then grep -r . "$path" | sort || true; else cat "$path" 2>/dev/null || true; fi
    done
    echo '# left'; ls /run/bake`)
  if (status !== 0) throw new Error(`${stdout}${stderr}`)
  const [told = '', ...parts] = stdout.split(/^# /m)
  const left = Object.fromEntries(
    parts.map((part) => {
      const [name, ...lines] = part.split('\n')
      return [name!, lines.filter(Boolean)]
    }),
  )
  const lines = told.split('\n').flatMap((line) => {
    const json = /^bake-swap: (\{"service".*\})$/.exec(line)?.[1]
    return json === undefined ? [] : [JSON.parse(json) as Line]
  })
  const ended = [...told.matchAll(/^ended with (\d+)$/gm)].map(([, code]) => Number(code))
  return {
    ...{ ended, told, stderr, lines },
    results: lines.map((line) => `${line.service} ${line.status}`),
    asked: left.asked!,
    restarts: left.asked!.flatMap((line) => /^systemctl restart bake-(.*)\.service$/.exec(line)?.[1] ?? []),
    logins: left.logins!,
    images: left.images!,
    /** File: image. */
    kept: left.kept!.map((line) => line.replace('/var/lib/bake/swap/', '').replace('.env:BAKE_IMAGE=', ' ')),
    tried: left.tried!,
    left: left.left!,
  }
}
