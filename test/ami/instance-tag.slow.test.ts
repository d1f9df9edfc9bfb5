import { describe, expect, test } from 'vitest'
import { renderMachine } from '../../src/ami/render.ts'
import { canMount, makeDiskRoot } from './disk-root.ts'
import { plan } from './plan.ts'

/** Stand-in of EC2's metadata service, version 2: what it says is in /run/answers. Runs a program beside it. */
const IMDS = `import http.server, json, subprocess, sys, threading
answers = json.load(open('/run/answers'))
class Imds(http.server.BaseHTTPRequestHandler):
    def say(self, status, body=''):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())
    def do_PUT(self):
        self.say(*((200, 'a-token') if self.path == '/latest/api/token' and self.headers['X-aws-ec2-metadata-token-ttl-seconds'] else (400,)))
    def do_GET(self):
        if self.headers['X-aws-ec2-metadata-token'] != 'a-token':
            self.say(401)
        elif self.path in answers:
            self.say(200, answers[self.path])
        else:
            self.say(404, 'none')
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(('169.254.169.254', 80), Imds)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.exit(subprocess.run(sys.argv[1:]).returncode)`

const RECORDS = '/bake/shop/swap'

describe.skipIf(!canMount)('on an instance of EC2, as root, the record of its stack is', () => {
  test.each([
    ['the one of its tag', `${RECORDS}/tag`, `#bake sha=abc swap=${RECORDS}/data`, `${RECORDS}/tag`],
    ['the one of its tag, without user-data', `${RECORDS}/tag`, '', `${RECORDS}/tag`],
    ['the one of its user-data, without a tag', '', `#bake sha=abc swap=${RECORDS}/data`, `${RECORDS}/data`],
    ['none for a tag that bake didn’t write', '/bake/$(touch /etc/hurt)', '#bake sha=abc', undefined],
    ['none when neither is there', '', '', undefined],
  ])('%s', async (_, tag, userData, record) => {
    const answers = JSON.stringify({
      ...(tag && { '/latest/meta-data/tags/instance/bake:swap': tag }),
      ...(userData && { '/latest/user-data': `${userData}\n` }),
    })
    using root = makeDiskRoot(await renderMachine(plan([]), new Map()), 16)
    const { status, stdout, stderr } = await root.run(`
      cp -r /run/bake-bake/files/. /
      mkdir /run/stubs
      printf '#!/bin/bash\\nexit 2\\n' | tee /run/stubs/blkid >/run/stubs/udevadm
      chmod +x /run/stubs/*
      PATH=/run/stubs:$PATH
      # Wherever this runs.
      sed -i 's,^on_ec2() {,&\\n  return 0,' /usr/local/lib/bake/instance
      printf '%s' '${answers}' >/run/answers
      cat >/run/imds.py <<'PY'
${IMDS}
PY
      unshare --net bash -c 'ip address add 169.254.169.254/32 dev lo; ip link set lo up; python3 /run/imds.py /usr/local/lib/bake/instance'
      [ ! -e /etc/hurt ] && cat /run/bake/swap-record 2>/dev/null || true
      ls /run/bake | grep -v swap-record`)
    expect({ status, out: stdout.trim().split('\n') }, stderr).toEqual({
      status: 0,
      out: [...(record === undefined ? [] : [record]), 'instance.env'],
    })
  })
})
