import { readFile } from 'node:fs/promises'
import { baseDisk } from './base-disk.ts'
import { makeProject, type TestProject } from './project.ts'
import type { RepoFiles } from './repo.ts'

/** Debian's busybox-static: one program that serves http and needs no library. */
const BUSYBOX = '/bin/busybox'

const dockerfile = (salt: string) =>
  `FROM scratch\nCOPY busybox /bin/\nCOPY index.html /www/\nENV PATH=/bin SALT=${salt}\nCMD ["busybox", "httpd", "-f", "-p", "3000", "-h", "/www"]\n`

/** A page over http, small enough for a machine that is emulated. */
export async function pageFiles(text = 'hello'): Promise<RepoFiles> {
  return {
    'web/Dockerfile': dockerfile(String(Math.random())),
    'web/busybox': { executable: await readFile(BUSYBOX) },
    'web/index.html': `${text}\n`,
  }
}

/** A project whose machine is baked on this machine, from the disk that `bake base` makes. `services`: what stands under machine.services, indented by four. */
export async function makeMachineProject(
  services: string,
  { files = {}, more = '' }: { files?: RepoFiles; more?: string } = {},
): Promise<TestProject> {
  const { disk } = await baseDisk()
  const yaml = `project: shop\nimages:\n  web: { context: web }\nmachine:\n  base: { disk: ${disk} }\n${more}  services:\n${services}`
  return makeProject({ ...(await pageFiles()), ...files, 'bake.yaml': yaml })
}
